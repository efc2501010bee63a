"""The trials of a sweep as configurations and records of their own."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from boothline.config import RunConfig
from boothline.config.sweep import Value
from boothline.errors import ConfigError
from boothline.runs import RunStatus, StepRecord, read_run, read_steps, trial_run_id
from boothline.store import Store

TRIAL_PIPELINE = "trial"
TRIAL_STEPS = ("train", "publish_checkpoint", "evaluate")


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


def trial_status(records: list[StepRecord]) -> RunStatus:
    """Return how a trial ended, when no step of it works any more."""
    done = {record.step for record in records if record.status == "done"}
    return "done" if done.issuperset(TRIAL_STEPS) else "failed"


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


def in_words(trial: Mapping[str, Value]) -> str:
    """Return a trial's settings on one line."""
    return ", ".join(f"{name}={value}" for name, value in trial.items())


def validated(values: dict[str, Any], what: str) -> RunConfig:
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
            f"{what} is no valid configuration: {reason}.",
            remedy="docs/configuration.md lists every setting.",
        ) from error


def _put(values: dict[str, Any], names: list[str], value: Value) -> None:
    """Set one setting in nested values."""
    for name in names[:-1]:
        values = values.setdefault(name, {})
    values[names[-1]] = value
