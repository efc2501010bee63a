"""The page on which prompts are tried, in a real browser against a real server."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from browser_fixtures import PHONE, violations
from integration.components_torch.serving import NAME, promote, served
from playwright.sync_api import Browser, Page, expect

from boothline.launch.local.session import Session
from boothline.launch.serve import Followed
from boothline.registry.versions import ModelVersion

pytestmark = [pytest.mark.services, pytest.mark.browser]
DESKTOP = (1440, 900)
PATIENCE = 120_000


@dataclass
class Visit:
    """The open page, with all that it complained about and asked for."""

    page: Page
    followed: Followed
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def visit(
    browser: Browser, session: Session, publish: Callable[[float], ModelVersion]
) -> Iterator[Visit]:
    promote(session, publish(1.5))
    followed = Followed(session, NAME, "champion")
    with served(followed) as url:
        width, height = DESKTOP
        context = browser.new_context(viewport={"width": width, "height": height})
        found = Visit(context.new_page(), followed)
        found.page.set_default_timeout(PATIENCE)
        found.page.on("console", lambda message: found.complaints.append(message.text))
        found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
        found.page.on("request", lambda request: found.requests.append(request.url))
        found.page.goto(url)
        yield found
        context.close()


def draw(page: Page, **values: str) -> None:
    page.locator("textarea").fill("a photo of sks bear")
    for name, value in {"steps": "1", "size": "32x32", **values}.items():
        page.locator(f"[name={name}]").fill(value)
    page.locator("#draw").click()
    expect(page.locator("#draw")).to_be_enabled(timeout=PATIENCE)


@pytest.mark.proves("F53/page")
def test_page_draws_a_prompt_with_the_version_that_answers(
    visit: Visit, session: Session, publish: Callable[[float], ModelVersion], axe: str
) -> None:
    page, first = visit.page, visit.followed.model.version
    expect(page.locator("h1")).to_have_text(NAME)
    expect(page.locator("#digest")).to_have_text(first.digest[:12])
    draw(page, seed="7")
    picture = page.locator("figure img")
    assert picture.evaluate("one => one.decode().then(() => one.naturalWidth)") == 32
    expect(page.locator("figcaption")).to_contain_text(f"seed 7, model {first.digest[:12]}")
    expect(page.locator("figcaption a")).to_have_attribute("download", f"{first.digest[:12]}-7.png")

    second = publish(2.0)
    promote(session, second)
    visit.followed.look()
    draw(page, seed="")
    expect(page.locator("figure")).to_have_count(2)
    expect(page.locator("#digest")).to_have_text(second.digest[:12])
    page.locator("figcaption button").first.click()
    assert page.locator("[name=seed]").input_value().isdigit()

    for media, scheme in (("screen", "light"), ("screen", "dark"), ("print", "light")):
        page.emulate_media(media=media, color_scheme=scheme)
        assert violations(page, axe) == [], (media, scheme)
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE[0]
    assert visit.complaints == []
    outside = [url for url in visit.requests if not url.startswith((page.url, f"blob:{page.url}"))]
    assert outside == []


@pytest.mark.proves("F53/page")
def test_page_shows_why_a_request_was_refused_and_draws_the_next(visit: Visit) -> None:
    page = visit.page
    draw(page, size="9x9")
    expect(page.get_by_role("alert")).to_contain_text("9x9")
    draw(page)
    expect(page.locator("figure")).to_have_count(1)
    expect(page.locator("#problem")).to_be_hidden()


def test_page_shows_hostile_text_as_text(visit: Visit) -> None:
    page = visit.page
    nasty = '<img src=x onerror=alert(1)> & "quotes"'
    page.locator("[name=steps]").fill("1")
    page.locator("[name=size]").fill("32x32")
    page.locator("textarea").fill(nasty)
    page.locator("#draw").click()
    expect(page.locator("figcaption")).to_contain_text(nasty, timeout=PATIENCE)
    assert visit.complaints == []
