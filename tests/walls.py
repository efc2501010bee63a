"""Lint of `make check`: walls of files and functions, and manifests read by their types only."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CODE = (
    "boothline",
    "components",
    "pipelines",
    "models",
    "benchmarks",
    "charts",
    "images",
    "tests",
    "website",
)
PRODUCT = ("boothline", "components", "pipelines")
RESULTS, STORE = ROOT / "boothline" / "results.py", ROOT / "boothline" / "store"
_LOOK_UPS = ("get", "items", "keys", "values")
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


def untyped(text: str) -> Iterator[str]:
    """Yield where a manifest's metadata is read or written past its typed result."""
    for node in ast.walk(ast.parse(text)):
        name = ""
        if isinstance(node, ast.Subscript):
            name = _last_name(node.value)
        elif isinstance(node, ast.Call):
            asked = isinstance(node.func, ast.Attribute) and node.func.attr in _LOOK_UPS
            name = _last_name(node.func.value) if asked else _last_name(node.func)
        if name in ("metadata", "ManifestDraft"):
            yield f"{node.lineno}: {name} is for boothline/results.py and boothline/store alone"


def _last_name(node: ast.expr) -> str:
    """Return `b` of `a.b` and `b` of `b`."""
    return getattr(node, "attr", "") or getattr(node, "id", "")


def main() -> int:
    """Print what breaks a rule and return the exit code."""
    found = [
        f"{path.relative_to(ROOT)}:{what}" for path in sources(ROOT) for what in too_long(path)
    ]
    found += [
        f"{path.relative_to(ROOT)}:{what}"
        for path in sources(ROOT)
        if path.relative_to(ROOT).parts[0] in PRODUCT and not path.is_relative_to(STORE)
        if path != RESULTS
        for what in untyped(path.read_text(encoding="utf-8"))
    ]
    sys.stdout.write("".join(f"{line}\n" for line in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
