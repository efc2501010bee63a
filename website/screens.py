"""Takes the pictures of docs/ from a finished demo: `python -m website.screens FOLDER [SERVER]`.

FOLDER is where `boothline demo` has run. It is run there again, which reuses every step, and its
terminal becomes docs/pictures/terminal.svg. Report and page on the pictures, and that of a running
`boothline serve` at the address SERVER, become docs/pictures/screens/NAME-WIDTH.png, by Debian's
Chromium.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from website import terminal
from website.links import DOCS, ROOT

PICTURES = DOCS / "pictures"
WIDTHS = {
    "phone": (390, 844, "light"),
    "desktop": (1280, 900, "light"),
    "dark": (1280, 900, "dark"),
}
_PROGRAM = [sys.executable, "-m", "boothline.cli.app"]
_SUBJECT = ROOT / "examples" / "subjects" / "teddy-bear"


def draw_terminal(folder: Path) -> None:
    """Run the demo again and write its terminal."""
    shown = terminal.screen(
        [*_PROGRAM, "demo", "--home", str(folder / ".boothline")],
        columns=100,
        rows=36,
        variables=os.environ | {"TERM": "xterm-256color"},
    )
    text = terminal.svg(shown, typed="boothline demo", replaced={f"{folder}/": ""})
    (PICTURES / "terminal.svg").write_text(text, encoding="utf-8")


def pages(folder: Path, server: str | None) -> dict[str, str]:
    """Return the addresses of the pages by name."""
    report = max(folder.glob(".boothline/runs/*/report.html"))
    validation = folder / "validation.html"
    noun = ("--set", "subject.class_noun=bear")
    command = [*_PROGRAM, "validate", str(_SUBJECT), *noun, "--report", str(validation)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found = {"report": report.as_uri(), "validation": validation.as_uri()}
    return found | ({"serve": server} if server else {})


def photograph(addresses: dict[str, str]) -> None:
    """Write the top of each page at each width."""
    from playwright.sync_api import sync_playwright

    (PICTURES / "screens").mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for width, (columns, rows, scheme) in WIDTHS.items():
            context = browser.new_context(
                viewport={"width": columns, "height": rows},
                color_scheme="dark" if scheme == "dark" else "light",
                reduced_motion="reduce",
            )
            page = context.new_page()
            for name, address in addresses.items():
                page.goto(address)
                page.screenshot(path=PICTURES / "screens" / f"{name}-{width}.png")
        browser.close()


def main() -> None:
    """Take the pictures."""
    folder = Path(sys.argv[1]).resolve()
    draw_terminal(folder)
    photograph(pages(folder, sys.argv[2] if len(sys.argv) > 2 else None))


if __name__ == "__main__":
    main()
