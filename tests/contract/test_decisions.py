"""Decisions have a number, a title, a status, and a row of the index."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "adr"
HEAD = re.compile(r"# (?P<number>\d{4}): (?P<title>.+)\n\nStatus: (?P<status>.+)\n")
STATUS = re.compile(r"proposed|accepted|rejected|superseded by \d{4}")
ROW = re.compile(r"^\| \[(\d{4})\]\(([^)]+)\) \| (.+) \| (.+) \|$", re.MULTILINE)

files = sorted(FOLDER.glob("0*.md"))


@pytest.mark.parametrize("path", files, ids=lambda path: path.stem)
def test_decision_begins_with_its_number_title_and_status(path: Path) -> None:
    head = HEAD.match(path.read_text(encoding="utf-8"))
    assert head is not None
    assert path.name.startswith(f"{head['number']}-")
    assert STATUS.fullmatch(head["status"])


def test_index_lists_every_decision_in_order_with_title_and_status() -> None:
    rows = ROW.findall((FOLDER / "README.md").read_text(encoding="utf-8"))
    heads = [(path.name, HEAD.match(path.read_text(encoding="utf-8"))) for path in files]
    assert rows == [(head["number"], name, head["title"], head["status"]) for name, head in heads]
