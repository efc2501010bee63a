"""Lint of `make check`: files and functions stay below their walls; prints what is too long."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CODE = ("boothline", "components", "pipelines", "models", "benchmarks", "charts", "images", "tests")
MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 400


def sources(root: Path) -> Iterator[Path]:
    """Yield every source file once: links inside a folder are not followed."""
    for top in CODE:
        for path in sorted((root / top).rglob("*.py")):
            if "node_modules" not in path.parts:
                yield path


def too_long(path: Path) -> Iterator[str]:
    """Yield what of a file is longer than its wall, as `<line>: <what>`."""
    text = path.read_text(encoding="utf-8")
    num_lines = len(text.splitlines())
    if num_lines > MAX_FILE_LINES:
        yield f"1: the file has {num_lines} lines; the wall is {MAX_FILE_LINES}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                yield f"{node.lineno}: {node.name} has {length} lines; {MAX_FUNCTION_LINES} is most"


def main() -> int:
    """Print what is too long and return the exit code."""
    found = [
        f"{path.relative_to(ROOT)}:{what}" for path in sources(ROOT) for what in too_long(path)
    ]
    sys.stdout.write("".join(f"{line}\n" for line in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
