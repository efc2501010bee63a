"""`evaluation`: pictures and metrics that judge a model."""

from typing import Literal, Self

from pydantic import Field, model_validator

from boothline.config.sampling import SamplingConfig
from boothline.config.section import SUBJECT_FIELD, Section


class EvaluationConfig(Section):
    """Pictures and metrics that judge a model."""

    prompts: tuple[str, ...] = Field(
        default=(
            "a photo of a {subject} on the moon",
            "a photo of a {subject} on the beach",
            "a photo of a {subject} in snow",
            "a photo of a {subject} on a red background",
        ),
        min_length=1,
        max_length=1000,
        description="Prompt templates; {subject} becomes identifier and class noun. Judged by when "
        "prompt_set is own; the first eight are also the sample sheets of the training.",
    )
    prompt_set: Literal["own", "tiny", "live", "object", "file"] = Field(
        default="own",
        description="Which prompts judge a model: own (evaluation.prompts), tiny (16 "
        "backgrounds of the tiny base), live or object (the DreamBooth paper's 25 prompts for live "
        "subjects or objects), file (evaluation.prompts_file).",
    )
    prompts_file: str | None = Field(
        default=None,
        description="Prompts of prompt_set file as .txt, .csv or .jsonl, each with {subject}, here "
        "or at an s3:// address.",
    )
    images_per_prompt: int = Field(default=4, ge=1, le=1000, description="Pictures per prompt.")
    sampling: SamplingConfig = Field(default=SamplingConfig(), description="Sampling.")
    clip_model: str = Field(
        default="builtin:tiny-emoji-clip", description="CLIP model of CLIP-I and CLIP-T."
    )
    dino_model: str = Field(
        default="builtin:tiny-emoji-dino", description="Self-supervised encoder of the DINO score."
    )
    lpips_model: str | None = Field(
        default=None,
        description="Perceptual distance of DIV: a folder or <hub id>@<commit> with LPIPS weights "
        "as safetensors (docs/evaluation.md); unset: 1 - cosine of DINO features.",
    )
    subject_weight: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Score = weight x subject fidelity + (1 - weight) x prompt fidelity.",
    )
    num_shards: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Parallel shards that sample the pictures of all models; 1: the evaluation "
        "samples them itself. Scores do not depend on it. The trials of a sweep always take 1.",
    )
    num_bootstrap: int = Field(default=1000, ge=100, le=100_000, description="Bootstrap resamples.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        for prompt in self.prompts:
            if SUBJECT_FIELD not in prompt:
                raise ValueError(f"evaluation.prompts: {prompt!r} lacks {SUBJECT_FIELD}")
        if (self.prompt_set == "file") != (self.prompts_file is not None):
            raise ValueError(
                "evaluation.prompts_file and evaluation.prompt_set=file belong together: "
                "set both or neither"
            )
        return self
