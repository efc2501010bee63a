"""What a pipeline is started with: its arguments, made from a configuration."""

import json
from collections.abc import Iterable

from boothline.catalogue import PIPELINES, has_gate, steps, steps_of, trial_steps
from boothline.config import RunConfig
from boothline.config.form import MAX_PARAMETER_BYTES, as_ascii, encode, filled
from boothline.errors import ConfigError
from boothline.progress import label_of
from boothline.runs import trial_run_id
from boothline.trials import trial_configs

TARGETS = {name: f"boothline.pipelines.{name}:{name}" for name in PIPELINES}
"""Where each pipeline is defined, `<module>:<attribute>`."""


def shards(config: RunConfig) -> dict[str, list[int]]:
    """Return the shard numbers of each sharded step."""
    return {step.name: list(range(step.shards.count(config))) for step in steps() if step.shards}


def labels(
    config: RunConfig, *, promoted: bool, pipeline: str = "dreambooth", skipped: bool = False
) -> list[str]:
    """Return the steps, shards and trials that a complete run has, in order.

    Args:
        config: the run's configuration.
        promoted: whether the gate let the model through, so that inference runs.
        pipeline: the pipeline's name.
        skipped: whether the retraining found nothing to train for.
    """
    served = promoted or not has_gate(pipeline)
    reached = {"always": True, "trained": not skipped, "promoted": served, "end": True}
    sharded: dict[str, Iterable[int | None]] = {**shards(config)}
    if pipeline == "sweep":
        sharded |= dict.fromkeys(trial_steps(), range(len(config.sweep.trials)))
    return [
        label_of(step.name, shard)
        for step in steps_of(pipeline)
        if reached[step.runs]
        for shard in sharded.get(step.name, (None,))
    ]


def arguments(run_id: str, config: RunConfig, *, pipeline: str = "dreambooth") -> dict[str, object]:
    """Return the arguments of a pipeline, by name.

    Raises:
        ConfigError: the configuration or the list of trials is too long for a parameter.
    """
    form = filled(config, pipeline=pipeline)
    values = {"run_id": run_id, **form.values, "config": encode(form.rest)}
    return values | ({"trials": trial_arguments(run_id, config)} if pipeline == "sweep" else {})


def trial_arguments(run_id: str, config: RunConfig) -> list[dict[str, str]]:
    """Return what the loop over the trials is given: run id and configuration of each.

    Only settings that differ from the defaults are written: a list of trials is one parameter.

    Raises:
        ConfigError: the list is too long for a parameter.
    """
    items = [
        {
            "run_id": trial_run_id(run_id, number),
            "config": as_ascii(trial.model_dump(mode="json", exclude_defaults=True)),
        }
        for number, trial in enumerate(trial_configs(config))
    ]
    size = len(json.dumps(items))
    if size > MAX_PARAMETER_BYTES:
        raise ConfigError(
            f"The {len(items)} trials take {size} bytes as a parameter; "
            f"{MAX_PARAMETER_BYTES} is the most.",
            remedy="Try fewer settings at once.",
        )
    return items
