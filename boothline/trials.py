"""The trials of a sweep as configurations and records of their own."""

import logging
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from boothline.catalogue import trial_steps
from boothline.config import RunConfig
from boothline.config.sweep import Value
from boothline.errors import (
    ConfigError,
    DataError,
    InterruptedRunError,
    NotFoundError,
    ServiceError,
)
from boothline.results import Leaderboard
from boothline.runs import (
    Failure,
    RunStatus,
    StepRecord,
    read_run,
    read_steps,
    trial_of,
    trial_run_id,
)
from boothline.store import Store

logger = logging.getLogger(__name__)

TRIAL_PIPELINE = "trial"
FAILED_TRIAL = "failed"
"""What the steps of a failed trial hand on in place of a manifest's reference."""
_STOPS_ALL_TRIALS = (ServiceError.exit_code, InterruptedRunError.exit_code)


def trial_configs(config: RunConfig) -> list[RunConfig]:
    """Return the configuration of each planned trial, without the sweep itself.

    Raises:
        ConfigError: a trial's settings are wrong; the message says which.
    """
    configs = []
    for number, trial in enumerate(config.sweep.trials):
        values = config.model_dump(mode="json", exclude={"sweep"})
        for name, value in trial.items():
            _put(values, name.split("."), value)
        configs.append(validated(values, f"Trial {number} ({in_words(trial)})"))
    return configs


def ends_its_trial_only(run_id: str, failure: Failure) -> bool:
    """Return whether a failure ends one trial of a sweep and lets the others continue.

    A service that is gone, a full disk and a signal would stop the other trials as well.
    """
    return trial_of(run_id) is not None and failure.exit_code not in _STOPS_ALL_TRIALS


def failure_of_trial(store: Store, run_id: str, number: int) -> StepRecord | None:
    """Return the record of the step that a trial of a sweep failed at; None when none did."""
    records = read_steps(store, trial_run_id(run_id, number))
    return next((record for record in records if record.status == "failed"), None)


def trial_status(records: list[StepRecord]) -> RunStatus:
    """Return how a trial ended, when no step of it works any more."""
    done = {record.step for record in records if record.status == "done"}
    return "done" if done.issuperset(trial_steps()) else "failed"


def steps_with_trials(store: Store, run_id: str) -> list[StepRecord]:
    """Return the records of a run's steps; those of a sweep's trials have the trial as shard."""
    records = read_steps(store, run_id)
    run = read_run(store, run_id)
    num_trials = len(run.config.get("sweep", {}).get("trials", [])) if run else 0
    for number in range(num_trials):
        records += [
            record.model_copy(update={"shard": number})
            for record in read_steps(store, trial_run_id(run_id, number))
        ]
    return sorted(records, key=lambda record: record.started_at)


def best_trial(store: Store, records: Sequence[StepRecord]) -> int | None:
    """Return the number of the best trial of a sweep; None for another run, or where it is lost.

    Args:
        store: holds the leaderboard.
        records: of the run's steps.
    """
    for record in records:
        if record.step == "compare_trials" and record.manifest:
            try:
                return store.read_as(Leaderboard, record.manifest).best.trial
            except (NotFoundError, DataError) as error:
                logger.warning("the best trial is not known: %s", error)
    return None


def in_words(trial: Mapping[str, Value]) -> str:
    """Return a trial's settings on one line."""
    return ", ".join(f"{name}={value}" for name, value in trial.items())


def validated(values: Mapping[str, object], what: str) -> RunConfig:
    """Return values as a configuration.

    Raises:
        ConfigError: they are none; the message begins with what they are.
    """
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = str(first.get("ctx", {}).get("error", f"{where}: {first['msg']}"))
        raise ConfigError(
            f"{what} is not a valid configuration: {reason}.",
            remedy="docs/configuration.md lists every setting.",
        ) from error


def _put(values: dict[str, object], names: list[str], value: Value) -> None:
    """Set one setting in nested values."""
    first, *rest = names
    if not rest:
        values[first] = value
        return
    found = values.get(first)
    inner = values[first] = found if isinstance(found, dict) else {}
    _put(inner, rest, value)
