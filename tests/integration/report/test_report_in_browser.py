"""The report in a real browser: nothing leaves the page, everything works by keyboard."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest
from browser_fixtures import PHONE, violations
from integration.report.synthetic_run import NASTY, SyntheticRun
from playwright.sync_api import Browser, Page, expect

from boothline.report import render_run
from boothline.services import Endpoints
from boothline.store import Store

pytestmark = [pytest.mark.browser, pytest.mark.services]
DESKTOP, SMALL_PHONE = (1280, 900), (360, 640)


@pytest.fixture(scope="module")
def report(object_store: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a promoted run with a champion, as a file."""
    folder = tmp_path_factory.mktemp("report")
    settings = object_store.settings(
        home=folder / "home", bucket="boothline-tests", prefix=f"browser-{uuid4().hex[:12]}"
    )
    store = Store.connect(settings)
    path = folder / "report.html"
    path.write_text(
        render_run(store, SyntheticRun(store, champion=True).complete()), encoding="utf-8"
    )
    return path


@dataclass
class Visit:
    """An open page with all that it complained about or asked for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def visit(browser: Browser, report: Path):
    """Open the report; returns a function of window size and colour scheme."""
    contexts = []

    def open_page(size: tuple[int, int] = DESKTOP, *, scheme: str = "light") -> Visit:
        width, height = size
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            reduced_motion="reduce",
        )
        contexts.append(context)
        found = Visit(context.new_page())
        found.page.on("console", lambda message: found.complaints.append(message.text))
        found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
        found.page.on("request", lambda request: found.requests.append(request.url))
        found.page.goto(report.as_uri())
        return found

    yield open_page
    for context in contexts:
        context.close()


def test_report_opens_without_a_complaint_or_a_request(visit, report: Path) -> None:
    opened = visit()
    opened.page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
    opened.page.locator(".tile").first.click()

    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith("data:")] == [report.as_uri()]


def test_report_policy_stops_a_script_that_is_not_its_own(visit) -> None:
    opened = visit()

    opened.page.evaluate(
        "const s = document.createElement('script'); s.textContent = 'window.stranger = 1';"
        "document.body.append(s); const i = new Image(); i.src = 'http://127.0.0.1:9/x.png';"
    )

    assert opened.page.evaluate("window.stranger") is None
    assert any("Content Security Policy" in complaint for complaint in opened.complaints)


def test_report_pictures_all_load(visit) -> None:
    widths = (
        visit()
        .page.locator("main img, header img")
        .evaluate_all("all => all.map(one => one.naturalWidth)")
    )

    assert len(widths) >= 80
    assert min(widths) > 0


def test_report_zoom_works_by_keyboard(visit) -> None:
    page = visit().page
    tile = page.locator(".comparison .tile").nth(1)
    dialog = page.locator("#zoom")

    tile.focus()
    page.keyboard.press("Enter")
    expect(dialog).to_be_visible()
    expect(dialog.locator("img")).to_have_count(3)
    expect(dialog.locator("figcaption").nth(2)).to_have_text("Base, sample 2")
    expect(dialog.locator(".zoom-caption")).to_contain_text("(2 of 16)")
    page.keyboard.press("ArrowRight")
    expect(dialog.locator(".zoom-caption")).to_contain_text("(3 of 16)")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(dialog.locator(".zoom-caption")).to_contain_text("(16 of 16)")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(tile).to_be_focused()


def test_report_zoom_shows_hostile_text_as_text(visit) -> None:
    opened = visit()
    opened.page.locator('.tile[data-group="batch"][data-caption*="alert"]').click()

    expect(opened.page.locator(".zoom-caption")).to_contain_text(NASTY)
    assert opened.complaints == []


def test_report_chart_reads_values_by_keyboard_and_pointer(visit) -> None:
    page = visit().page
    chart = page.locator(".chart").first
    readout = chart.locator(".readout")
    expect(readout).to_contain_text("At step 120: instance loss")

    chart.focus()
    page.keyboard.press("ArrowLeft")
    expect(readout).to_contain_text("At step 118: instance loss")
    expect(chart.locator("svg.wide .cursor circle")).to_have_count(4)

    chart.locator("svg.plot.wide").hover(position={"x": 60, "y": 100})
    step = int(re.search(r"At step (\d+)", readout.text_content())[1])
    assert 1 <= step <= 6


def test_report_slider_shows_the_samples_of_one_step(visit) -> None:
    page = visit().page
    film, slider = page.locator(".film"), page.locator("#film-step")
    expect(film.locator("li:visible")).to_have_count(1)
    expect(film.locator("output")).to_have_text("After step 120")

    slider.focus()
    page.keyboard.press("ArrowLeft")
    expect(film.locator("output")).to_have_text("After step 80")
    expect(film.locator("li:visible img")).to_have_attribute("alt", "Samples after step 80")
    expect(slider).to_have_attribute("aria-valuetext", "After step 80")
    film.locator("button", has_text="Side by side").click()
    expect(film.locator("li:visible")).to_have_count(4)
    expect(slider).to_be_disabled()


def test_report_pairs_open_side_by_side(visit) -> None:
    page = visit().page

    page.locator('.tile[data-group="copies"]').first.click()

    expect(page.locator("#zoom img")).to_have_count(2)
    expect(page.locator("#zoom figcaption").nth(1)).to_have_text("Training picture")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_report_has_no_accessibility_violation(visit, axe: str, size, scheme) -> None:
    page = visit(size, scheme=scheme).page
    page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")

    assert violations(page, axe) == []
    page.emulate_media(media="print")
    assert violations(page, axe) == []


def test_report_zoomed_picture_has_no_accessibility_violation(visit, axe: str) -> None:
    page = visit().page
    page.locator(".comparison .tile").first.click()

    assert violations(page, axe) == []


def test_report_contents_follow_the_reader(visit) -> None:
    page = visit().page

    page.locator(".contents a", has_text="Training").click()

    expect(page.locator('.contents a[aria-current="true"]')).to_have_text("Training")


@pytest.mark.parametrize("size", [DESKTOP, PHONE, SMALL_PHONE], ids=["desktop", "phone", "small"])
def test_report_never_scrolls_sideways(visit, size) -> None:
    page = visit(size).page
    page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")

    assert page.evaluate("document.documentElement.scrollWidth") == size[0]


@pytest.mark.parametrize(
    ("name", "size", "scheme", "ground"),
    [
        ("light", DESKTOP, "light", "rgb(250, 249, 246)"),
        ("dark", DESKTOP, "dark", "rgb(21, 21, 23)"),
        ("phone", PHONE, "light", "rgb(250, 249, 246)"),
    ],
)
def test_report_follows_the_colour_scheme(visit, tmp_path, name, size, scheme, ground) -> None:
    page = visit(size, scheme=scheme).page

    page.screenshot(path=tmp_path / f"{name}.png", full_page=True)

    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground
    assert (tmp_path / f"{name}.png").stat().st_size > 100_000


def test_report_controls_all_have_names_and_can_be_reached(visit) -> None:
    page = visit().page

    nameless = page.locator("main button, main a, main summary, nav a").evaluate_all(
        "all => all.filter(one => !(one.textContent.trim() || one.getAttribute('aria-label')"
        " || one.querySelector('img[alt]'))).length"
    )
    page.keyboard.press("Tab")

    assert nameless == 0
    expect(page.locator(".skip")).to_be_focused()
    expect(page.locator(".skip")).to_be_in_viewport()
