"""Puts figures into the pages, from what benchmarks measured: `python -m website.figures`.

docs/figures/NAME.json is what a benchmark printed last, with its command, date and machine. A page
names a figure and has it between two comments: a number `<!--=NAME.ROW.COLUMN-->651<!--/-->`, or a
whole table between a line `<!--=NAME-->` and a line `<!--/-->`. A row is called by its words, a
column by its title, both in lower case with hyphens.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from boothline.data.limits import Limits
from website.links import DOCS, ROOT

FOLDER = DOCS / "figures"
_MARK = re.compile(r"<!--=(?P<name>[\w.%/-]+)-->(?P<shown>.*?)<!--/-->", re.DOTALL)
_MEBIBYTE = 2**20


def pages() -> Iterator[Path]:
    """Yield the pages that may have figures."""
    yield from (ROOT / "README.md", ROOT / "benchmarks" / "README.md")
    yield from sorted(DOCS.glob("*.md"))
    yield from sorted((ROOT / "components").glob("*/README.md"))


def figures() -> dict[str, str]:
    """Return every figure by its name: of the benchmarks, and the limits that the code has."""
    found = {"limits.decoder.mib": str(Limits().decode_memory_bytes // _MEBIBYTE)}
    for path in sorted(FOLDER.glob("*.json")):
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        found[path.stem] = f"\n\n{table(rows)}\n"
        for row in rows:
            name = _called(" ".join(value for value in row.values() if isinstance(value, str)))
            found |= {f"{path.stem}.{name}.{_called(key)}": _shown(row[key]) for key in row}
    return found


def table(rows: list[Mapping[str, Any]]) -> str:
    """Return rows as a table of Markdown."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([*map(_shown, row.values())] for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def filled(text: str, known: Mapping[str, str]) -> str:
    """Return a page with its figures as they are known now.

    Raises:
        KeyError: the page names a figure that no file has.
    """
    return _MARK.sub(lambda m: f"<!--={m['name']}-->{known[m['name']]}<!--/-->", text)


def _called(title: object) -> str:
    return re.sub(r"[^a-z0-9%/]+", "-", str(title).lower()).strip("-")


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Write the figures into the pages."""
    known = figures()
    for page in pages():
        text = page.read_text(encoding="utf-8")
        if (now := filled(text, known)) != text:
            page.write_text(now, encoding="utf-8")


if __name__ == "__main__":
    main()
