"""What a pipeline is started with: its arguments, made from a configuration."""

import json
import re
from collections.abc import Iterable

from boothline.catalogue import PIPELINES, has_gate, steps, steps_of, trial_steps
from boothline.config import RunConfig
from boothline.errors import ConfigError
from boothline.progress import label_of
from boothline.runs import trial_run_id
from boothline.trials import trial_configs

TARGETS = {name: f"boothline.pipelines.{name}:{name}" for name in PIPELINES}
"""Where each pipeline is defined, `<module>:<attribute>`."""
MAX_PARAMETER_BYTES = 65536

# Text that KFP or Argo replaces inside parameters: {{$...}}, {{...}}, and, under kfp.local, the
# name of the interpreter and the workspace's mount path.
_REPLACED = re.compile(r"\$|(?<=\{)\{|(?<=python)3|/(?=kfp-workspace)")


def encode(config: RunConfig) -> str:
    """Return the configuration as ASCII JSON that no pipeline engine rewrites.

    The characters that would start a placeholder are written as JSON escapes (they occur inside
    strings only), so that the parameter arrives byte for byte and reads back as an equal
    configuration.

    Raises:
        ConfigError: the configuration is too long for a parameter.
    """
    text = as_ascii(config.model_dump(mode="json"))
    if len(text) > MAX_PARAMETER_BYTES:
        raise ConfigError(
            f"The configuration takes {len(text)} bytes as a parameter; "
            f"{MAX_PARAMETER_BYTES} is the most.",
            remedy="Shorten prior.prompts or evaluation.prompts; put long lists of prompts into "
            "inference.prompts_file.",
        )
    return text


def as_ascii(value: object) -> str:
    """Return a value as ASCII JSON that no pipeline engine rewrites; it reads back equal."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True)
    return _REPLACED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


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
    numbers = shards(config)
    values: dict[str, object] = {"run_id": run_id, "config": encode(config)}
    values |= {
        step.shards.argument: numbers[step.name] for step in steps_of(pipeline) if step.shards
    }
    if pipeline == "sweep":
        values["trials"] = trial_arguments(run_id, config)
    return values


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
