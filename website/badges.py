"""Draws the badges of README from what the repository says: `python -m website.badges`."""

import re
import tomllib
from collections.abc import Mapping
from html import escape

from website.links import DOCS, ROOT

FOLDER = DOCS / "pictures" / "badges"
_CHARACTER, _PADDING, _HEIGHT = 6.5, 9, 22  # pixels


def badges() -> Mapping[str, str]:
    """Return the badges by file name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    python = project["requires-python"].replace(">=", "") + "+"
    page = (DOCS / "features.md").read_text(encoding="utf-8")
    counts = re.search(r"^Of (\d+) rows: (\d+) proven, (\d+) partly", page, re.MULTILINE)
    rows, proven, partly = counts.groups() if counts else ("?", "?", "?")
    return {
        "python.svg": badge("Python", python),
        "licence.svg": badge("licence", project["license"]),
        "features.svg": badge("features", f"{proven} of {rows} proven, {partly} partly"),
    }


def badge(name: str, value: str) -> str:
    """Return a badge as SVG."""
    left, right = (round(len(text) * _CHARACTER + 2 * _PADDING) for text in (name, value))
    width, label = left + right, escape(f"{name}: {value}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{_HEIGHT}" role="img"'
        f' aria-label="{label}"><title>{label}</title>\n'
        f'<rect width="{width}" height="{_HEIGHT}" rx="4" fill="#3f51b5"/>\n'
        f'<path d="M4 0 H{left} V{_HEIGHT} H4 a4 4 0 0 1 -4 -4 V4 a4 4 0 0 1 4 -4z"'
        ' fill="#3a3f4f"/>\n'
        '<g fill="#ffffff" text-anchor="middle" font-size="12"'
        " font-family=\"Verdana, 'DejaVu Sans', sans-serif\">\n"
        f'<text x="{left / 2:g}" y="15" textLength="{left - 2 * _PADDING}">{escape(name)}</text>\n'
        f'<text x="{left + right / 2:g}" y="15" textLength="{right - 2 * _PADDING}">'
        f"{escape(value)}</text>\n</g></svg>\n"
    )


def main() -> None:
    """Write the badges."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in badges().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
