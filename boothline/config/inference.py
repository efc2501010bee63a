"""`inference`: batch inference with the champion."""

from pydantic import Field

from boothline.config.sampling import SamplingConfig
from boothline.config.section import Section


class InferenceConfig(Section):
    """Batch inference with the champion after promotion."""

    prompts_file: str | None = Field(
        default=None, description="Prompts as .txt, .csv or .jsonl; unset: evaluation.prompts."
    )
    images_per_prompt: int = Field(default=1, ge=1, le=1000, description="Pictures per prompt.")
    num_shards: int = Field(default=2, ge=1, le=256, description="Parallel shards.")
    sampling: SamplingConfig = Field(
        default=SamplingConfig(seed=1000), description="Sampling; a prompt row may override it."
    )
