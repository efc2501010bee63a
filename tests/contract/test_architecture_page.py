"""The names, rooms and links of docs/architecture.md exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "architecture.md"
# Without blocks of code, and with lines joined: a reference may stand on two.
PROSE = re.sub(r"```.*?```", "", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
TEXT = " ".join(PROSE.split())
REFERENCE = re.compile(r"([\w/]+\.py): (\w+(?:\.\w+)?)")

spans = sorted({span for span in re.findall(r"`([^`]+)`", TEXT) if ".py" in span})
references = [span for span in spans if ":" in span]
files = [span for span in spans if ":" not in span and "/" in span]
links = re.findall(r"\]\(([^)]+)\)", TEXT)


def names_in(body: list[ast.stmt], prefix: str = "") -> set[str]:
    """Return the names that a module defines, and `Class.name` of what its classes do."""
    found = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(prefix + node.name)
        if isinstance(node, ast.ClassDef) and not prefix:
            found |= names_in(node.body, f"{node.name}.")
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        found |= {prefix + target.id for target in targets if isinstance(target, ast.Name)}
    return found


def rooms() -> list[str]:
    """Return the folders and modules of the package, as the page writes them."""
    inside = [path for path in (ROOT / "boothline").iterdir() if not path.name.startswith("_")]
    return sorted(
        f"boothline/{path.name}{'/' if path.is_dir() else ''}"
        for path in inside
        if path.suffix == ".py"
        or (path.is_dir() and any(child.name != "__pycache__" for child in path.iterdir()))
    )


def test_names_of_a_module_are_its_functions_classes_methods_and_constants() -> None:
    text = "import os\nA = 1\nB: int = 2\ndef f(): g = 1\nclass C:\n    d: int\n    def m(self): 0"
    assert names_in(ast.parse(text).body) == {"A", "B", "f", "C", "C.d", "C.m"}


@pytest.mark.parametrize("reference", references)
def test_code_that_the_page_names_exists(reference: str) -> None:
    match = REFERENCE.fullmatch(reference)
    assert match is not None, "write `path/file.py: name` or `path/file.py: Class.name`"
    path = ROOT / match[1]
    assert path.is_file()
    assert match[2] in names_in(ast.parse(path.read_text(encoding="utf-8")).body)


@pytest.mark.parametrize("path", files)
def test_file_that_the_page_names_exists(path: str) -> None:
    assert (ROOT / path).is_file()


def test_every_room_of_the_package_has_a_line_of_the_table() -> None:
    named = re.findall(
        r"^\| `(boothline/[^`]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert sorted(named) == rooms()


@pytest.mark.parametrize("link", links)
def test_link_of_the_page_resolves(link: str) -> None:
    assert (PAGE.parent / link).exists()


def test_page_is_read_at_all() -> None:
    assert len(references) > 50
    assert len(links) > 5
    assert "](docs/architecture.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
