"""`inference`: batch inference with the champion."""

from pydantic import Field

from boothline.config.sampling import SamplingConfig
from boothline.config.section import Section


class InferenceConfig(Section):
    """Batch inference with the champion after promotion."""

    version: str = Field(
        default="champion",
        pattern=r"^(champion|challenger|[1-9][0-9]*)$",
        description="Pipeline batch_inference: which version of the registered model makes the "
        "pictures: champion, challenger or a number.",
    )
    prompts_file: str | None = Field(
        default=None, description="Prompts as .txt, .csv or .jsonl; unset: evaluation.prompts."
    )
    images_per_prompt: int = Field(default=1, ge=1, le=1000, description="Pictures per prompt.")
    num_shards: int = Field(default=2, ge=1, le=256, description="Parallel shards.")
    strength: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="Image-to-image and inpainting: share of the steps that are taken from the "
        "picture on; a prompt row may override it.",
    )
    grid_columns: int = Field(
        default=0,
        ge=0,
        le=32,
        description="Columns (and rows) of the sheets that show the pictures; 0: no sheets.",
    )
    webdataset: bool = Field(
        default=False,
        description="Write the pictures a second time as one WebDataset tar a shard.",
    )
    sampling: SamplingConfig = Field(
        default=SamplingConfig(seed=1000), description="Sampling; a prompt row may override it."
    )
