"""The rules of the house: walls, heavy imports, tests of faults that are run."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import walls

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "diffusers", "transformers", "accelerate", "peft", "mlflow", "kfp")

step_modules = sorted(
    ".".join(("boothline", *path.relative_to(ROOT).with_suffix("").parts))
    for path in (ROOT / "components").glob("*/step.py")
)


def test_lint_of_the_walls_names_a_long_file_and_a_long_function(tmp_path: Path) -> None:
    path = tmp_path / "long.py"
    path.write_text("def short():\n    pass\n\n\ndef long():\n" + "    pass\n" * 400)
    assert list(walls.too_long(path)) == [
        "1: the file has 405 lines; the wall is 400",
        "5: long has 401 lines; 60 is most",
    ]
    path.write_text("def just():\n" + "    pass\n" * 59)
    assert list(walls.too_long(path)) == []


@pytest.mark.parametrize(
    ("text", "is_refused"),
    [
        ('store.read(ref).metadata["verdict"]', True),
        ('manifest.metadata.get("verdict")', True),
        ("{**dict(x), **metadata}.items(), metadata.items()", True),
        ('ManifestDraft(kind="x", files={})', True),
        ("store.read_as(Promotion, ref).verdict", False),
        ('importlib.metadata.version("torch"), pod.metadata.labels["x"]', False),
        ("-> ManifestDraft", False),
    ],
)
def test_lint_of_results_refuses_metadata_past_the_typed_results(
    text: str, is_refused: bool
) -> None:
    code = f"def f() {text}: ..." if text.startswith("->") else text
    assert bool(list(walls.untyped(code))) is is_refused


def test_step_modules_and_command_line_load_nothing_heavy() -> None:
    modules = [*step_modules, "boothline.steps", "boothline.cli.app"]
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
        f"    print(*(f'{{name}}: {{n}}\\n' for n in {HEAVY!r} if n in sys.modules), end='')"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert result.stdout == ""


def test_steps_are_all_found() -> None:
    assert len(step_modules) == 12


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
