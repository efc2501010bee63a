"""The walls of the house: sizes of files and functions, tests that assert, heavy imports."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ("boothline", "components", "pipelines")
CODE = (*LIBRARY, "models", "benchmarks", "tests")
MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 400
HEAVY = ("torch", "diffusers", "transformers", "mlflow", "kfp")

sources = sorted(
    path for top in CODE for path in (ROOT / top).rglob("*.py") if "node_modules" not in path.parts
)
step_modules = sorted(
    ".".join(("boothline", *path.relative_to(ROOT).with_suffix("").parts))
    for path in (ROOT / "components").glob("*/step.py")
)


@pytest.mark.parametrize("path", sources, ids=lambda path: str(path.relative_to(ROOT)))
def test_source_file_stays_below_its_walls(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    functions = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    too_long = [
        f"{function.name}: {(function.end_lineno or 0) - function.lineno + 1} lines"
        for function in functions
        if (function.end_lineno or 0) - function.lineno >= MAX_FUNCTION_LINES
    ]
    assert too_long == []
    assert len(text.splitlines()) <= MAX_FILE_LINES


@pytest.mark.parametrize("module", [*step_modules, "boothline.steps", "boothline.cli.app"])
def test_module_import_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*(n for n in {HEAVY!r} if n in sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert result.stdout.split() == []


def test_steps_are_all_found() -> None:
    assert len(step_modules) == 11


def test_every_test_of_a_fault_is_run_by_make_test_faults() -> None:
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    chosen = re.search(r"^FAULT_TESTS := (.*)$", makefile, re.MULTILINE)
    assert chosen is not None
    paths = chosen[1].split()

    def is_run(name: str) -> bool:
        return any(name == path or name.startswith((f"{path}/", f"{path}::")) for path in paths)

    assert [name for name in fault_tests() if not is_run(name)] == []


def fault_tests() -> list[str]:
    """Return the tests marked `faults`: `file::function`, or the file that is marked as a whole."""
    names = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        file = str(path.relative_to(ROOT))
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and "mark.faults" in ast.unparse(node):
                names.append(file)
            elif isinstance(node, ast.FunctionDef):
                marks = " ".join(ast.unparse(mark) for mark in node.decorator_list)
                names += [f"{file}::{node.name}"] if "mark.faults" in marks else []
    return names
