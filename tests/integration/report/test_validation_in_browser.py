"""The page on a subject's pictures in a real browser."""

import json
from pathlib import Path

import pytest
from browser_fixtures import PHONE, violations
from integration.report.synthetic_results import draw
from integration.report.synthetic_run import NASTY
from playwright.sync_api import Browser, expect

from boothline.config.subject import SubjectConfig
from boothline.data.report import (
    AcceptedImage,
    DatasetReport,
    DatasetWarning,
    QuarantinedImage,
)
from boothline.report.validation import render_validation

pytestmark = pytest.mark.browser
DESKTOP = (1280, 900)


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page on five pictures with a near duplicate, an exact one, and a file that is none."""
    folder = tmp_path_factory.mktemp("validation")
    (folder / "thumbnails").mkdir()
    accepted = []
    for number in range(5):
        path = f"thumbnails/{number:03d}.png"
        (folder / path).write_bytes(draw(number, 1.0, 128))
        accepted.append(
            AcceptedImage(
                source=f"bear-{number}.jpg",
                image=f"images/{number:03d}.png",
                thumbnail=path,
                caption="a photo of sks bear",
                format="JPEG",
                width_px=640,
                height_px=480,
                sharpness=512.3,
            )
        )
    (folder / "thumbnails" / "quarantined-000.png").write_bytes(draw(1, 1.0, 128))
    repeated = QuarantinedImage(
        source="copy.jpg",
        check="duplicate",
        reason="has the same pixels as bear-1.jpg",
        advice="Leave one of them out.",
        thumbnail="thumbnails/quarantined-000.png",
        other="bear-1.jpg",
    )
    nothing = QuarantinedImage(
        source=f"{NASTY}.jpg", check="decode", reason="is a text", advice="Remove it."
    )
    alike = DatasetWarning(
        source="bear-3.jpg",
        check="duplicate",
        message="looks like bear-2.jpg (96 % of the hash)",
        advice="Use pictures that differ.",
        other="bear-2.jpg",
    )
    report = DatasetReport(
        resolution_px=64,
        identifier="sks",
        class_noun="bear",
        accepted=tuple(accepted),
        quarantined=(repeated, nothing),
        warnings=(alike,),
    )
    path = folder / "validation.html"
    path.write_text(render_validation(report, folder, subject=SubjectConfig()), encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_validation_page_is_quiet_accessible_and_fits(
    browser: Browser, axe: str, page_file: Path, tmp_path: Path, size, scheme
) -> None:
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme
    )
    complaints: list[str] = []
    requests: list[str] = []
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(page_file.as_uri())
    page.screenshot(path=tmp_path / "page.png", full_page=True)

    assert page.evaluate("document.documentElement.scrollWidth") == size[0]
    widths = page.locator("main img").evaluate_all("all => all.map(one => one.naturalWidth)")
    assert len(widths) == 5 + 2 + 2
    assert min(widths) > 0
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [page_file.as_uri()]
    found = violations(page, axe)
    page.emulate_media(media="print")
    found += violations(page, axe)
    assert found == [], json.dumps(found, indent=1)
    context.close()


def test_validation_page_opens_repeats_side_by_side(browser: Browser, page_file: Path) -> None:
    page = browser.new_page()
    page.goto(page_file.as_uri())

    page.locator('.tile[data-group="check-duplicate"]').first.click()

    expect(page.locator("#zoom img")).to_have_count(2)
    expect(page.locator("#zoom figcaption").nth(1)).to_have_text("bear-1.jpg")
    page.close()
