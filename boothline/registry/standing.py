"""Whether a version that is not champion may be called the challenger: by verdicts and sweeps."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from boothline.errors import DataError, NotFoundError
from boothline.results import Leaderboard, Promotion, Result
from boothline.runs import StepRecord, trial_of
from boothline.store import ManifestRef, Store, layout

logger = logging.getLogger(__name__)

MAX_PARALLEL_READS = 16
SWITCHED_OFF = "enabled"
"""The rule that refuses every model where promotion is switched off: it judges none."""
_PUBLISHED = "/steps/publish_checkpoint.json"
ResultT = TypeVar("ResultT", bound=Result)


class Standing:
    """What gates and sweeps have said of the models of a store, as read now.

    Args:
        store: holds the verdicts, the leaderboards and the records of runs.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._verdicts: dict[str, bool] | None = None
        self._leaderboards: list[Leaderboard] | None = None

    def may_challenge(self, ref: ManifestRef) -> bool:
        """Return whether a model passed the gate, or is still to be judged by one.

        The winner of a sweep is to be judged; its other trials never are.
        """
        model = str(ref)
        passed = self._verdict_of(model)
        if passed is not None:
            return passed
        boards = [board for board in self._boards() if any(r.model == model for r in board.trials)]
        if boards:
            return any(board.best.model == model for board in boards)
        return not self._is_trial(model)

    def _verdict_of(self, model: str) -> bool | None:
        """Return whether the newest verdict on a model lets it through; None: there is none."""
        if self._verdicts is None:
            found = sorted(_results(self._store, "promote", Promotion), key=lambda item: item[0])
            self._verdicts = {
                verdict.model: verdict.promoted for _, verdict in found if _judges(verdict)
            }
        return self._verdicts.get(model)

    def _boards(self) -> list[Leaderboard]:
        """Return the leaderboards of all sweeps."""
        if self._leaderboards is None:
            found = _results(self._store, "compare_trials", Leaderboard)
            self._leaderboards = [board for _, board in found]
        return self._leaderboards

    def _is_trial(self, model: str) -> bool:
        """Return whether trials of sweeps alone have published a model."""
        paths = [
            path for path in self._store.list_records(layout.RUNS) if path.endswith(_PUBLISHED)
        ]
        with ThreadPoolExecutor(max_workers=MAX_PARALLEL_READS) as pool:
            records = list(pool.map(self._store.get_record, paths))
        makers = [
            layout.run_of(path)
            for path, value in zip(paths, records, strict=True)
            if value is not None and StepRecord.model_validate(value).manifest == model
        ]
        return bool(makers) and all(trial_of(run_id) for run_id in makers)


def _judges(verdict: Promotion) -> bool:
    """Return whether a verdict says something about the model."""
    refusing = [rule.name for rule in verdict.rules if not rule.passed]
    return verdict.promoted or refusing != [SWITCHED_OFF]


def _results(store: Store, step: str, kind: type[ResultT]) -> Iterator[tuple[str, ResultT]]:
    """Yield when each result of a step was made, and what it says; what is damaged is left out."""
    with ThreadPoolExecutor(max_workers=MAX_PARALLEL_READS) as pool:
        paths = store.manifests(layout.step_results(step))
        yield from filter(None, pool.map(partial(_result, store, kind), paths))


def _result(store: Store, kind: type[ResultT], path: str) -> tuple[str, ResultT] | None:
    """Return one result with its date; None where it cannot be read."""
    try:
        found = store.look_up(path)
        return None if found is None else (found[1].created_at, kind.of(found[1], name=path))
    except (DataError, NotFoundError) as error:
        logger.warning("%s is not counted: %s", path, error)
        return None
