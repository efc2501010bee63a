"""The fault table says what was measured, and fails where something is missing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TABLE = Path(__file__).with_name("fault_table.py")
CASE = '<testcase classname="tests.faults.{0}" name="{1}">{2}</testcase>'
NODE = ("training.test_node_loss", "test_node_loss_resumes")


def rows(folder: Path, *cases: tuple[str, str, str]) -> tuple[int, dict[str, dict[str, object]]]:
    """Return the exit code of the table of some cases, and its rows by fault."""
    text = "".join(CASE.format(*case) for case in cases)
    (folder / "results.xml").write_text(f"<testsuites>{text}</testsuites>")
    figure = {"row": "node loss", "figure": "no file differs", "test": "x"}
    (folder / "x.figure.json").write_text(json.dumps(figure))
    run = subprocess.run([sys.executable, str(TABLE), str(folder)], stdout=subprocess.PIPE)
    found = json.loads((folder / "faults.json").read_text())
    return run.returncode, {row["fault"]: row for row in found}


@pytest.mark.parametrize(
    ("outcome", "verdict", "reasons"),
    [
        ("", "met", []),
        ("<failure/>", "FAILED", []),
        ('<skipped message="no mount here"/>', "not measured", ["no mount here"]),
    ],
    ids=["passed", "failed", "skipped"],
)
def test_fault_table_tells_how_a_row_ended(
    tmp_path: Path, outcome: str, verdict: str, reasons: list[str]
) -> None:
    code, found = rows(tmp_path, (*NODE, outcome))
    assert code == 1  # nothing was measured of the other rows
    assert found["node loss"]["verdict"] == verdict
    assert found["node loss"]["figures"] == ["no file differs"]
    assert found["node loss"]["reasons"] == reasons
    assert found["clock"]["verdict"] == "not measured"
