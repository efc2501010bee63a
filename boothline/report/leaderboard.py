"""The trials of a sweep, ranked, for the report."""

from collections.abc import Mapping
from typing import Any

from boothline.report.model import Leaderboard, TrialLine
from boothline.report.sources import RunSources
from boothline.trials import in_words

NAMES = {
    "score": "Score",
    "dino": "DINO",
    "clip_i": "CLIP-I",
    "clip_t": "CLIP-T",
    "div": "DIV",
    "pres": "PRES",
}


def leaderboard_of(run: RunSources) -> Leaderboard:
    """Return the trials that a sweep compared, the best first; nothing for other runs."""
    source = run.first("compare_trials")
    if source is None:
        return Leaderboard()
    rows = source.manifest.metadata.get("trials", [])
    trials = run.attempt("The leaderboard", lambda: tuple(_line(row) for row in rows)) or ()
    measured = [NAMES[name] for name in NAMES if any(name in row["scores"] for row in rows)]
    return Leaderboard(trials=trials, scores=tuple(measured))


def _line(row: Mapping[str, Any]) -> TrialLine:
    """Return one row of the leaderboard."""
    return TrialLine(
        number=int(row["trial"]),
        settings=in_words(row["settings"]),
        scores={NAMES[name]: float(mean) for name, mean in row["scores"].items() if name in NAMES},
        failure=str(row.get("failure", "")),
    )
