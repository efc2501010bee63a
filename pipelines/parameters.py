"""What a pipeline is started with: its arguments, made from a configuration."""

import json
import re
from typing import Any

from boothline.config import RunConfig
from boothline.errors import ConfigError
from boothline.progress import label_of
from boothline.runs import trial_run_id
from boothline.trials import TRIAL_STEPS, trial_configs

TARGETS = {
    "dreambooth": "boothline.pipelines.dreambooth:dreambooth",
    "sweep": "boothline.pipelines.sweep:sweep",
    "retrain": "boothline.pipelines.retrain:retrain",
}
"""Where each pipeline is defined, `<module>:<attribute>`."""
ALL_STEPS = (
    "validate_data",
    "check_triggers",
    "generate_prior",
    "train",
    "publish_checkpoint",
    "sample_models",
    "evaluate",
    "compare_trials",
    "promote",
    "batch_infer",
    "finish_run",
)
"""The steps of all pipelines, in an order that holds for each."""
_ONLY_IN = {
    "check_triggers": ("retrain",),
    "compare_trials": ("sweep",),
    "sample_models": ("dreambooth", "retrain"),
}
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


def steps_of(pipeline: str) -> tuple[str, ...]:
    """Return the steps of a pipeline in their order."""
    return tuple(step for step in ALL_STEPS if pipeline in _ONLY_IN.get(step, (pipeline,)))


STEPS = steps_of("dreambooth")


def as_ascii(value: object) -> str:
    """Return a value as ASCII JSON that no pipeline engine rewrites; it reads back equal."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True)
    return _REPLACED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def shards(config: RunConfig) -> dict[str, list[int]]:
    """Return the shard numbers of each sharded step."""
    numbers = {
        "generate_prior": config.prior.num_shards if config.prior.enabled else 1,
        "sample_models": config.evaluation.num_shards,
        "batch_infer": config.inference.num_shards,
    }
    return {step: list(range(number)) for step, number in numbers.items()}


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
    if skipped:
        return ["validate_data", "check_triggers", "finish_run"]
    sharded = shards(config)
    if not promoted:
        sharded["batch_infer"] = []
    if pipeline == "sweep":
        sharded |= {step: list(range(len(config.sweep.trials))) for step in TRIAL_STEPS}
    return [
        label_of(step, shard) for step in steps_of(pipeline) for shard in sharded.get(step, (None,))
    ]


def arguments(run_id: str, config: RunConfig, *, pipeline: str = "dreambooth") -> dict[str, Any]:
    """Return the arguments of a pipeline, by name.

    Raises:
        ConfigError: the configuration or the list of trials is too long for a parameter.
    """
    sharded = shards(config)
    values: dict[str, Any] = {
        "run_id": run_id,
        "config": encode(config),
        "prior_shards": sharded["generate_prior"],
        "inference_shards": sharded["batch_infer"],
    }
    if pipeline == "sweep":
        values["trials"] = trial_arguments(run_id, config)
    else:
        values["evaluation_shards"] = sharded["sample_models"]
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
