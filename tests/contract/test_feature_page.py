"""docs/features.md says what the tests and benchmarks show, and no more."""

from pathlib import Path

import pytest
from feature_page import PAGE, Proof, Row, page, read_proofs, read_rows, status_of, unknown_claims

MODULE = """
import pytest
pytestmark = [pytest.mark.services, pytest.mark.containers, pytest.mark.proves("F03")]
OTHER = pytest.mark.proves("F09")

@pytest.mark.proves("F01", "F02/one")
@pytest.mark.parametrize("x", [1])
def test_this(x): ...

def test_that(): ...

def helper(): ...
"""
WHOLE = Row("F01", "a | b", "S")
PARTED = Row("F02", "c", "P", {"one": "the one", "two": "the other"})


def checkout(folder: Path) -> Path:
    (folder / "tests" / "gpu").mkdir(parents=True)
    (folder / "benchmarks").mkdir()
    (folder / "tests" / "test_module.py").write_text(MODULE)
    (folder / "tests" / "gpu" / "test_gpu.py").write_text(
        'import pytest\n@pytest.mark.proves("F02/two")\ndef test_gpu(): ...\n'
    )
    (folder / "benchmarks" / "speed.py").write_text('import missing\nPROVES = ("F04",)\n')
    return folder


@pytest.mark.proves("F68/features")
def test_page_is_fresh() -> None:
    rows, proofs = read_rows(), read_proofs()
    assert unknown_claims(rows, proofs) == []
    assert PAGE.read_text(encoding="utf-8") == page(rows, proofs), "run `make docs`"


def test_rows_are_numbered_in_order_and_each_once() -> None:
    numbers = [int(row.id.removeprefix("F")) for row in read_rows()]
    assert numbers == sorted(set(numbers))
    assert (numbers[0], numbers[-1]) == (1, 72)
    assert all(row.source in ("S", "P", "N", "S/P") for row in read_rows())


def test_proofs_are_read_from_decorators_modules_and_benchmarks(tmp_path: Path) -> None:
    found = {(p.claim, p.path, p.name) for p in read_proofs(checkout(tmp_path))}
    assert found == {
        ("F01", "tests/test_module.py", "test_this"),
        ("F02/one", "tests/test_module.py", "test_this"),
        ("F03", "tests/test_module.py", ""),
        ("F02/two", "tests/gpu/test_gpu.py", "test_gpu"),
        ("F04", "benchmarks/speed.py", ""),
    }


def test_row_is_proven_by_all_of_its_parts_and_not_by_a_gpu_that_was_not_there(
    tmp_path: Path,
) -> None:
    proofs = read_proofs(checkout(tmp_path))
    assert status_of(WHOLE, proofs) == "proven"
    assert status_of(PARTED, proofs) == "partly"
    assert status_of(PARTED, [*proofs, Proof("F02/two", "tests/test_a.py", "test_a")]) == "proven"
    assert status_of(Row("F05", "d", "N"), proofs) == "not proven"
    assert status_of(Row("F02", "c", "P", {"two": "the other"}), proofs) == "not proven"


def test_page_counts_rows_and_names_what_is_missing(tmp_path: Path) -> None:
    text = page([WHOLE, PARTED, Row("F05", "d", "N")], read_proofs(checkout(tmp_path)))
    assert "Of 3 rows: 1 proven, 1 partly, 1 not proven." in text
    assert (
        r"| F01 | a \| b | S | proven | [this](../tests/test_module.py) (make test-containers) |"
        in text
    )
    assert "the other: waits for a GPU: [gpu](../tests/gpu/test_gpu.py) |" in text
    assert "| F05 | d | N | not proven |  |" in text


@pytest.mark.parametrize("claim", ["F02", "F02/three", "F01/one", "F99"])
def test_claim_that_no_row_allows_is_named(claim: str) -> None:
    proof = Proof(claim, "tests/test_a.py", "test_a")
    assert unknown_claims([WHOLE, PARTED], [proof]) == [f"tests/test_a.py: {claim}"]
