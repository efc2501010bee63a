"""Scores of mutated modules, and the survivors that docs/testing.md gives a reason for."""

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from mutation.mutants import Mutant

LEAST_SCORE = 0.95
_ROW = re.compile(
    r"\| (?P<path>[\w/]+\.py) \| `(?P<old>.+?)` \| (?P<new>`.+?`|deleted) \| .*\w.* \|"
)

Change = tuple[str, str, str]
"""Path of a module, a line before, and the line after."""


@dataclass
class Score:
    """What became of a module's mutants."""

    path: str
    num_mutants: int = 0
    survivors: list[Mutant] = field(default_factory=list)

    def count(self, mutant: Mutant, *, is_killed: bool) -> None:
        """Take in one result."""
        self.num_mutants += 1
        if not is_killed:
            self.survivors.append(mutant)

    @property
    def score(self) -> float:
        """The part that was killed."""
        return 1 - len(self.survivors) / max(self.num_mutants, 1)


def listed_survivors(page: Path) -> set[Change]:
    """Return the changes in the page's tables that have a reason."""
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    return {
        (row["path"], _code(row["old"]), _code(row["new"]))
        for row in map(_ROW.fullmatch, text.splitlines())
        if row
    }


def _code(cell: str) -> str:
    return "" if cell == "deleted" else cell.strip("`").replace("\\|", "|")


def report(scores: list[Score], listed: set[Change]) -> int:
    """Write the table and the survivors; return 1 if a score is low or a survivor not listed."""
    lines = ["| module | mutants | killed | survived | score |", "| --- | --- | --- | --- | --- |"]
    for score in scores:
        survived = len(score.survivors)
        numbers = f"{score.num_mutants} | {score.num_mutants - survived} | {survived}"
        lines.append(f"| {score.path} | {numbers} | {score.score:.1%} |")
    low = [score.path for score in scores if score.score < LEAST_SCORE]
    changes = dict.fromkeys(
        (score.path, mutant.old, mutant.new) for score in scores for mutant in score.survivors
    )
    missing = [change for change in changes if change not in listed]
    if low:
        lines += ["", f"Under {LEAST_SCORE:.0%}: {', '.join(low)}"]
    if missing:
        lines += ["", "Survivors that docs/testing.md gives no reason for:", *map(_row, missing)]
    sys.stdout.write("\n".join(lines) + "\n")
    return int(bool(low or missing))


def _row(change: Change) -> str:
    path, *codes = change
    old, new = (f"`{code.replace('|', chr(92) + '|')}`" if code else "deleted" for code in codes)
    return f"| {path} | {old} | {new} | |"
