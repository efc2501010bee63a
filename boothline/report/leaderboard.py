"""The trials of a sweep, ranked, for the report."""

from boothline.measures import METRICS
from boothline.report.model import Leaderboard as Shown
from boothline.report.model import TrialLine
from boothline.report.sources import RunSources
from boothline.results import Leaderboard, TrialRow
from boothline.trials import in_words


def leaderboard_of(run: RunSources) -> Shown:
    """Return the trials that a sweep compared, the best first; nothing for other runs."""
    found = run.read("compare_trials", Leaderboard, "The leaderboard")
    if found is None:
        return Shown()
    measured = [
        metric.short
        for name, metric in METRICS.items()
        if any(name in row.scores for row in found.trials)
    ]
    return Shown(trials=tuple(_line(row) for row in found.trials), scores=tuple(measured))


def _line(row: TrialRow) -> TrialLine:
    """Return one row of the leaderboard."""
    return TrialLine(
        number=row.trial,
        settings=in_words(row.settings),
        scores={METRICS[name].short: mean for name, mean in row.scores.items() if name in METRICS},
        failure=row.failure,
    )
