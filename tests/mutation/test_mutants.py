"""Mutation testing counts what it should, and asks for a reason for each survivor."""

from pathlib import Path

import pytest

pytest.importorskip("cosmic_ray", reason="needs cosmic-ray (the extra dev)")

from mutation.mutants import Mutant, mutants_of
from mutation.score import Score, listed_survivors, report

SOURCE = '''LEVEL = 0.5


def scaled(value: int | float, *, by: float = 2.0) -> float | None:
    """Return 3 - 1."""
    logger.info("scaled")
    check(value)
    return value - LEVEL * by
'''


def changes(source: str) -> set[tuple[str, str]]:
    return {(mutant.function, mutant.new) for mutant in mutants_of(source)}


def test_mutants_change_constants_defaults_operators_and_calls() -> None:
    found = changes(SOURCE)
    assert ("", "LEVEL = 1.5") in found
    assert ("", "def scaled(value: int | float, *, by: float = 3.0) -> float | None:") in found
    assert ("scaled", "return value + LEVEL * by") in found
    assert ("scaled", "return value - LEVEL / by") in found
    assert ("scaled", "pass") in found


def test_mutants_change_neither_types_nor_texts_nor_log_messages() -> None:
    new = "\n".join(line for _, line in changes(SOURCE))
    assert "int - float" not in new
    assert "/, by" not in new
    assert "^" not in new
    assert [mutant.old for mutant in mutants_of(SOURCE) if mutant.new == "pass"] == ["check(value)"]


def test_mutants_leave_to_the_type_checker_what_it_judges() -> None:
    old = "@dataclass(frozen=True, kw_only=True, eq=True)"
    mutants = mutants_of(f"import x\n\n\n{old}\nclass A:\n    a: int = 1\n")
    changed = {mutant.new for mutant in mutants if mutant.old == old}
    assert "@dataclass(frozen=True, kw_only=True, eq=False)" in changed
    assert not any("frozen=False" in new or "kw_only=False" in new for new in changed)


def test_mutants_of_a_decorator_name_the_line_that_is_gone() -> None:
    mutants = mutants_of("import x\n\n\n@x.wrapped\ndef f():\n    g()\n")
    assert ("@x.wrapped", "") in {(mutant.old, mutant.new) for mutant in mutants}


def test_mutants_compile_and_differ() -> None:
    sources = [mutant.source for mutant in mutants_of(SOURCE)]
    assert len(set(sources)) == len(sources)
    for source in sources:
        compile(source, "mutant", "exec")


def scored(num_killed: int, survivor: Mutant) -> Score:
    score = Score("a/b.py")
    for number in range(num_killed):
        score.count(Mutant(number, "x", "y", "f", "s"), is_killed=True)
    score.count(survivor, is_killed=False)
    return score


SURVIVOR = Mutant(3, "return a | b", "return a & b", "f", "s")


@pytest.mark.proves("F68/mutants")
@pytest.mark.parametrize(
    ("num_killed", "row", "code"),
    [
        (19, r"| a/b.py | `return a \| b` | `return a & b` | both are the same set |", 0),
        (18, r"| a/b.py | `return a \| b` | `return a & b` | both are the same set |", 1),
        (19, r"| a/b.py | `return a \| b` | `return a & b` | |", 1),
        (19, r"| a/c.py | `return a \| b` | `return a & b` | both are the same set |", 1),
        (19, "", 1),
    ],
    ids=["listed", "under 95 %", "without a reason", "of another module", "not listed"],
)
def test_report_asks_for_the_score_and_a_reason_for_each_survivor(
    tmp_path: Path, num_killed: int, row: str, code: int
) -> None:
    page = tmp_path / "testing.md"
    page.write_text(f"# Testing\n\n{row}\n")
    assert report([scored(num_killed, SURVIVOR)], listed_survivors(page)) == code


def test_report_writes_a_missing_row_as_the_page_wants_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report([scored(19, SURVIVOR)], set())
    out = capsys.readouterr().out
    assert "| a/b.py | 20 | 19 | 1 | 95.0% |" in out
    page = tmp_path / "testing.md"
    page.write_text(out.splitlines()[-1].removesuffix("|") + "a reason |")
    assert report([scored(19, SURVIVOR)], listed_survivors(page)) == 0
