"""Writes what the code says to people as text that Vale reads: `python styles/messages.py FOLDER`.

Each source file becomes `FOLDER/<path>.md`, with a string on the line where it stands in the code.
Docstrings and comments are left out: Vale reads those of Python by itself.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PRODUCT = ("boothline", "components", "pipelines")


def messages(source: str) -> Iterator[tuple[int, str]]:
    """Yield the strings of a source that have more than one word, each with its line."""
    tree = ast.parse(source)
    inner: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            inner.add(node.value)
        if isinstance(node, ast.JoinedStr):
            inner.update(ast.walk(node))
            parts = (str(getattr(part, "value", "")) for part in _texts(node))
            yield node.lineno, "X".join(parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inner:
            yield node.lineno, node.value


def _texts(node: ast.JoinedStr) -> Iterator[ast.Constant]:
    """Yield what of an f-string is text."""
    for part in node.values:
        if isinstance(part, ast.Constant):
            yield part


def page(source: str) -> str:
    """Return the messages of a source, each on its line."""
    lines = [""] * len(source.splitlines())
    for number, text in messages(source):
        if " " in text:
            lines[number - 1] += " ".join(text.split()) + " "
    return "\n".join(line.rstrip() for line in lines) + "\n"


def main() -> None:
    """Write the pages below the folder that is named."""
    folder = Path(sys.argv[1])
    for top in PRODUCT:
        for path in sorted((ROOT / top).rglob("*.py")):
            target = folder / path.relative_to(ROOT).with_suffix(".py.md")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(page(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
