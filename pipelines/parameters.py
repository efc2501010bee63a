"""What a pipeline is started with: its arguments, made from a configuration."""

import json
import re
from typing import Any

from boothline.config import RunConfig
from boothline.errors import ConfigError
from boothline.progress import label_of

STEPS = (
    "validate_data",
    "generate_prior",
    "train",
    "publish_checkpoint",
    "evaluate",
    "promote",
    "batch_infer",
    "finish_run",
)
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
    text = json.dumps(config.model_dump(mode="json"), separators=(",", ":"), ensure_ascii=True)
    text = _REPLACED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    if len(text) > MAX_PARAMETER_BYTES:
        raise ConfigError(
            f"The configuration takes {len(text)} bytes as a parameter; "
            f"{MAX_PARAMETER_BYTES} is the most.",
            remedy="Shorten prior.prompts or evaluation.prompts; put long lists of prompts into "
            "inference.prompts_file.",
        )
    return text


def shards(config: RunConfig) -> tuple[list[int], list[int]]:
    """Return the shard numbers of the prior and of the inference."""
    num_prior = config.prior.num_shards if config.prior.enabled else 1
    return list(range(num_prior)), list(range(config.inference.num_shards))


def labels(config: RunConfig, *, promoted: bool) -> list[str]:
    """Return the steps and shards that a complete run has, in order.

    Args:
        config: the run's configuration.
        promoted: whether the gate let the model through, so that inference runs.
    """
    prior_shards, inference_shards = shards(config)
    sharded = {"generate_prior": prior_shards, "batch_infer": inference_shards if promoted else []}
    return [label_of(step, shard) for step in STEPS for shard in sharded.get(step, (None,))]


def arguments(run_id: str, config: RunConfig) -> dict[str, Any]:
    """Return the arguments of a pipeline, by name.

    Raises:
        ConfigError: the configuration is too long for a parameter.
    """
    prior_shards, inference_shards = shards(config)
    return {
        "run_id": run_id,
        "config": encode(config),
        "prior_shards": prior_shards,
        "inference_shards": inference_shards,
    }
