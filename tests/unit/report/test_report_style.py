"""The colours of the report meet WCAG AA (4.5 to 1 for text) in light and dark."""

import re
from importlib import resources

import pytest

TEXT_ON_GROUND = [
    (text, ground) for text in ("ink", "quiet", "accent") for ground in ("paper", "surface")
] + [
    ("good", "good-soft"),
    ("held", "held-soft"),
    ("bad", "bad-soft"),
    ("accent", "accent-soft"),
    ("ink", "held-soft"),
    ("ink", "bad-soft"),
    ("quiet", "held-soft"),
    ("ink", "sunken"),
    ("bad", "paper"),
]


def colours(theme: str) -> dict[str, str]:
    css = (resources.files("boothline.report") / "templates/report.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", css, re.S)[:2]
    found = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", light))
    return found | (
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", dark)) if theme == "dark" else {}
    )


def luminance(colour: str) -> float:
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_of_black_and_white_is_twenty_one() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), TEXT_ON_GROUND)
def test_text_on_its_ground_has_enough_contrast(theme, text, ground) -> None:
    found = colours(theme)

    assert contrast(found[text], found[ground]) >= 4.5
