"""A real browser for pages that tests make, and axe-core to judge how accessible they are.

axe-core comes from npm: `make axe` fetches the version that tests/browser/package.json pins.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium")
AXE = Path(__file__).parent / "browser" / "node_modules" / "axe-core" / "axe.min.js"
PHONE = (390, 844)
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Debian's Chromium; the test is skipped where there is none."""
    if CHROMIUM is None:
        pytest.skip("no `chromium` on the PATH to open pages in")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core; the test is skipped where `make axe` was not run."""
    if not AXE.is_file():
        pytest.skip("no axe-core: run `make axe` (needs npm)")
    return AXE.read_text(encoding="utf-8")


def violations(page: "Page", axe: str) -> list[dict[str, Any]]:
    """Return what axe-core finds wrong with a page: the rule, and the elements that break it."""
    page.evaluate(axe)
    found: list[dict[str, Any]] = page.evaluate(
        "axe.run().then(all => all.violations.map(one => ({rule: one.id, help: one.help,"
        " at: one.nodes.map(node => node.html.slice(0, 200))})))"
    )
    return found
