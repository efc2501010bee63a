"""Takes the pictures of docs/ from a finished demo: `python -m website.screens FOLDER [SERVER]`.

FOLDER is where `boothline demo` has run. It is run there again, which reuses every step, and its
terminal becomes docs/pictures/terminal.svg; the subject's pictures and all that the model drew for
the evaluation become docs/pictures/teddy-bear.png. The report, the page on pictures with faults,
and that of a running `boothline serve` at the address SERVER are taken by Debian's Chromium at each
width, into FOLDER/screens, to be looked at; those that docs/ show become docs/pictures/NAME.png.
"""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageFilter

from boothline.launch.local.session import existing_session
from boothline.runs import read_steps
from website import terminal
from website.links import DOCS, ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Page

PICTURES = DOCS / "pictures"
WIDTHS = {
    "phone": (390, 844, "light"),
    "tablet": (960, 1139, "light"),
    "desktop": (1280, 900, "light"),
    "dark": (1280, 900, "dark"),
    "phone-dark": (390, 844, "dark"),
}
SHOWN = {"demo": "report-tablet", "validation": "validation-tablet", "serve": "serve-tablet"}
"""What docs/ show, by the names there."""
_TILE_PX, _GAP_PX, _COLUMNS = 128, 4, 8
_PATIENCE_MS = 300_000
_PROGRAM = [sys.executable, "-m", "boothline.cli.app"]
_SUBJECT = ROOT / "examples" / "subjects" / "teddy-bear"
_PROMPT = "a photo of sks bear on the beach"


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


def draw_subject(folder: Path) -> None:
    """Write the subject's pictures above those that the model of the last run drew of it."""
    home = folder / ".boothline"
    run_id = max(path.name for path in (home / "runs").glob("*"))
    with existing_session(home) as session:
        store = session.store
        (record,) = (one for one in read_steps(store, run_id) if one.step == "evaluate")
        drawn = store.read(record.manifest).under("images/finetuned/")
        contents = [store.read_entry(entry) for entry in sorted(drawn, key=lambda e: e.path)]
    given = [path.read_bytes() for path in sorted(_SUBJECT.glob("*.jpg"))]
    step = _TILE_PX + _GAP_PX
    rows = [given, *(contents[at : at + _COLUMNS] for at in range(0, len(contents), _COLUMNS))]
    size = (_COLUMNS * step - _GAP_PX, len(rows) * step + 2 * _GAP_PX)
    sheet = Image.new("RGB", size, "white")
    for number, row in enumerate(rows):
        top = number * step + (3 * _GAP_PX if number else 0)
        for column, content in enumerate(row):
            with Image.open(io.BytesIO(content)) as image:
                tile = image.convert("RGB").resize((_TILE_PX, _TILE_PX), Image.Resampling.LANCZOS)
            sheet.paste(tile, (column * step, top))
    sheet.save(PICTURES / "teddy-bear.png", optimize=True)


def write_faulty_pictures(folder: Path) -> None:
    """Write the subject's pictures, one of them nearly twice, one blurred and one damaged."""
    folder.mkdir(exist_ok=True)
    files = sorted(_SUBJECT.glob("*.jpg"))
    for file in files:
        shutil.copyfile(file, folder / file.name)
    with Image.open(files[0]) as first, Image.open(files[1]) as second:
        width, height = first.size
        first.crop((1, 1, width, height)).save(folder / "06-again.jpg", quality=85)
        second.filter(ImageFilter.GaussianBlur(width / 40)).save(folder / "07-blurred.jpg")
    (folder / "08-damaged.jpg").write_bytes(files[2].read_bytes()[:400])


def pages(folder: Path, server: str | None) -> dict[str, str]:
    """Return the addresses of the pages by name."""
    report = max(folder.glob(".boothline/runs/*/report.html"))
    validation, pictures = folder / "validation.html", folder / "pictures-with-faults"
    write_faulty_pictures(pictures)
    noun = ("--set", "subject.class_noun=bear")
    command = [*_PROGRAM, "validate", str(pictures), *noun, "--report", str(validation)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found = {"report": report.as_uri(), "validation": validation.as_uri()}
    return found | ({"serve": server} if server else {})


def photograph(addresses: dict[str, str], folder: Path) -> None:
    """Write the top of each page at each width; docs/ get those that they show."""
    from playwright.sync_api import sync_playwright

    folder.mkdir(exist_ok=True)
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
            page.set_default_timeout(_PATIENCE_MS)
            for name, address in addresses.items():
                page.goto(address)
                if name == "serve":
                    draw_prompt(page)
                page.screenshot(path=folder / f"{name}-{width}.png")
        browser.close()
    for name, taken in SHOWN.items():
        if taken.partition("-")[0] in addresses:
            with Image.open(folder / f"{taken}.png") as image:
                image.save(PICTURES / f"{name}.png", optimize=True)


def draw_prompt(page: "Page") -> None:
    """Draw a picture on the server's page, always the same."""
    page.locator("textarea").fill(_PROMPT)
    page.locator("[name=seed]").fill("7")
    page.locator("#draw").click()
    page.locator("#drawn img").first.wait_for()


def main() -> None:
    """Take the pictures."""
    folder = Path(sys.argv[1]).resolve()
    draw_terminal(folder)
    draw_subject(folder)
    photograph(pages(folder, sys.argv[2] if len(sys.argv) > 2 else None), folder / "screens")


if __name__ == "__main__":
    main()
