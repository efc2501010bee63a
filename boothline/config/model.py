"""`RunConfig`: every setting of a run, with its bounds, units and meaning."""

import re
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

SUBJECT_FIELD = "{subject}"


class Section(BaseModel):
    """Base of all configuration sections: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SubjectConfig(Section):
    """What is being learnt: the pictures, the identifier and the class noun."""

    name: str = Field(
        default="subject",
        pattern=r"^[a-z0-9][a-z0-9-]{0,62}$",
        description="Name of the subject; names the registered model.",
    )
    images: str = Field(
        default="examples/subjects/teddy-bear",
        min_length=1,
        description="Instance images: a folder, a .zip/.tar archive, or an s3:// prefix.",
    )
    identifier: str = Field(
        default="sks",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9 _-]{0,31}$",
        description="Rare token that stands for the subject; must be one token of the tokenizer.",
    )
    class_noun: str = Field(
        default="bear",
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z][A-Za-z0-9 -]*$",
        description="Noun of the class that the subject belongs to.",
    )
    prompt: str = Field(
        default="a photo of {subject}",
        min_length=1,
        max_length=300,
        description="Caption of an instance image that has no caption file beside it.",
    )
    resolution_px: int = Field(
        default=64,
        ge=32,
        le=2048,
        multiple_of=8,
        description="Side of the training pictures, in pixels.",
    )
    min_images: int = Field(default=3, ge=1, le=100, description="Fewest usable instance images.")
    max_images: int = Field(default=100, ge=1, le=1000, description="Most instance images.")

    @property
    def phrase(self) -> str:
        """Identifier and class noun, as they stand in prompts: `sks bear`."""
        return f"{self.identifier} {self.class_noun}"

    def fill(self, template: str) -> str:
        """Return the template with `{subject}` replaced by the phrase."""
        return template.replace(SUBJECT_FIELD, self.phrase)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if SUBJECT_FIELD not in self.prompt:
            raise ValueError(f"subject.prompt must contain {SUBJECT_FIELD}, got {self.prompt!r}")
        if self.max_images < self.min_images:
            raise ValueError(
                f"subject.max_images ({self.max_images}) is below "
                f"subject.min_images ({self.min_images})"
            )
        return self


class BaseModelConfig(Section):
    """The text-to-image model to start from."""

    source: str = Field(
        default="builtin:tiny-emoji-sd",
        min_length=1,
        description="builtin:<name>, a local diffusers folder, or <hub id>@<revision>.",
    )
    allow_hub: bool = Field(default=False, description="Allow downloads from the model hub.")


SamplerName = Literal[
    "ddpm", "ddim", "pndm", "dpmpp_2m", "dpmpp_2m_karras", "euler", "euler_a", "unipc"
]


class SamplingConfig(Section):
    """How pictures are sampled."""

    sampler: SamplerName = Field(default="dpmpp_2m", description="Sampler.")
    num_steps: int = Field(default=20, ge=1, le=1000, description="Denoising steps.")
    guidance_scale: float = Field(
        default=5.0, ge=0, le=50, description="Classifier-free guidance scale; 1 switches it off."
    )
    eta: float = Field(default=0.0, ge=0, le=1, description="Stochasticity of DDIM (0: none).")
    negative_prompt: str = Field(default="", max_length=300, description="Negative prompt.")
    batch_size: int = Field(default=8, ge=1, le=256, description="Pictures sampled together.")
    seed: int = Field(
        default=0, ge=0, lt=2**31, description="Seed; picture i depends on (seed, i)."
    )


class PriorConfig(Section):
    """The class prior: pictures of the class, sampled from the base model."""

    enabled: bool = Field(default=True, description="Use prior preservation.")
    num_images: int = Field(default=32, ge=1, le=100_000, description="Class pictures.")
    prompt: str = Field(
        default="a photo of a {class}",
        max_length=300,
        description="Prompt of the class pictures; {class} is the class noun. "
        "Ignored when prompts is set.",
    )
    prompts: tuple[str, ...] = Field(
        default=(),
        description="Prompts used in turn (picture i takes prompt i modulo their number).",
    )
    weight: float = Field(default=1.0, ge=0, le=100, description="Weight of the prior loss.")
    num_shards: int = Field(default=2, ge=1, le=256, description="Parallel shards.")
    sampling: SamplingConfig = Field(
        default=SamplingConfig(), description="Sampling of class pictures."
    )

    def prompt_of(self, index: int, class_noun: str) -> str:
        """Return the prompt of class picture `index`."""
        prompts = self.prompts or (self.prompt,)
        return prompts[index % len(prompts)].replace("{class}", class_noun)


class LoraConfig(Section):
    """Low-rank adapters; used when training.method is lora."""

    rank: int = Field(default=8, ge=1, le=1024, description="Rank of the update.")
    alpha: float = Field(default=8.0, gt=0, le=4096, description="Scale: alpha / rank.")
    dora: bool = Field(default=False, description="Weight-decomposed LoRA (DoRA).")
    text_encoder: bool = Field(default=True, description="Adapters on the text encoder too.")


class TrainingConfig(Section):
    """Fine-tuning of the UNet and the text encoder."""

    method: Literal["full", "lora"] = Field(default="full", description="What is trained.")
    lora: LoraConfig = Field(default=LoraConfig(), description="Adapter settings.")
    num_steps: int = Field(default=150, ge=1, le=1_000_000, description="Optimizer steps.")
    batch_size: int = Field(
        default=4, ge=1, le=1024, description="Instance pictures per optimizer step over all ranks."
    )
    accumulation: int = Field(
        default=1, ge=1, le=1024, description="Micro-batches per optimizer step and rank."
    )
    num_processes: int = Field(
        default=2, ge=1, le=1024, description="World size of one node (torchrun)."
    )
    learning_rate: float = Field(
        default=1e-4, gt=0, le=1, description="Peak learning rate of the UNet."
    )
    text_encoder_learning_rate: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Peak learning rate of the text encoder; unset: as the UNet.",
    )
    train_text_encoder: bool = Field(default=True, description="Train the text encoder too.")
    schedule: Literal["constant", "cosine", "linear", "polynomial"] = Field(
        default="constant", description="Learning-rate schedule after warm-up."
    )
    warmup_steps: int = Field(default=10, ge=0, description="Linear warm-up, in optimizer steps.")
    optimizer: Literal["adamw"] = Field(default="adamw", description="Optimizer.")
    weight_decay: float = Field(default=0.01, ge=0, le=1, description="Decoupled weight decay.")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="Adam beta 1.")
    beta2: float = Field(default=0.999, ge=0, lt=1, description="Adam beta 2.")
    max_grad_norm: float = Field(default=1.0, gt=0, description="Gradient clipping threshold.")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        default="fp32", description="Compute precision; weights stay fp32."
    )
    gradient_checkpointing: bool = Field(default=False, description="Trade compute for memory.")
    ema_decay: float | None = Field(
        default=None, gt=0, lt=1, description="Decay of the weight average; unset: none."
    )
    min_snr_gamma: float | None = Field(
        default=None, gt=0, description="Min-SNR loss weighting on both halves; unset: none."
    )
    noise_offset: float = Field(default=0.0, ge=0, le=1, description="Offset noise strength.")
    horizontal_flip: bool = Field(default=False, description="Flip instance pictures at random.")
    caches: bool = Field(
        default=True,
        description="Encode each picture (and each caption, when the text encoder is frozen) once "
        "instead of every step; the result is the same to the bit.",
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of all draws of the training.")
    sample_every_steps: int = Field(
        default=50, ge=0, description="Steps between sample sheets; 0: only at the end."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        micro = self.num_processes * self.accumulation
        if self.batch_size % micro:
            raise ValueError(
                f"training.batch_size ({self.batch_size}) must be a multiple of num_processes x "
                f"accumulation ({micro}); set training.batch_size to a multiple of {micro}"
            )
        return self


class CheckpointConfig(Section):
    """Training states kept in the store."""

    every_steps: int = Field(default=50, ge=1, description="Steps between training states.")
    keep_last: int = Field(default=2, ge=2, le=100, description="Newest states kept.")


class MetricMargins(Section):
    """Bounds of the promotion gate, in units of each score (cosine, -1 to 1)."""

    min_subject_gain: float = Field(
        default=0.02,
        ge=-2,
        le=2,
        description="Subject fidelity (DINO) must exceed the base by this.",
    )
    max_prompt_loss: float = Field(
        default=0.10,
        ge=0,
        le=2,
        description="Prompt fidelity (CLIP-T) may fall below the base by this.",
    )
    min_champion_gain: float = Field(
        default=0.0, ge=-2, le=2, description="Score must exceed the champion's by more than this."
    )


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
        description="Prompt templates; {subject} becomes identifier and class noun.",
    )
    images_per_prompt: int = Field(default=4, ge=1, le=1000, description="Pictures per prompt.")
    sampling: SamplingConfig = Field(default=SamplingConfig(), description="Sampling.")
    clip_model: str = Field(
        default="builtin:tiny-emoji-clip", description="CLIP model of CLIP-I and CLIP-T."
    )
    dino_model: str = Field(
        default="builtin:tiny-emoji-dino", description="Self-supervised encoder of the DINO score."
    )
    subject_weight: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Score = weight x subject fidelity + (1 - weight) x prompt fidelity.",
    )
    num_bootstrap: int = Field(default=1000, ge=100, le=100_000, description="Bootstrap resamples.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        for prompt in self.prompts:
            if SUBJECT_FIELD not in prompt:
                raise ValueError(f"evaluation.prompts: {prompt!r} lacks {SUBJECT_FIELD}")
        return self


class PromotionConfig(Section):
    """The gate between challenger and champion."""

    enabled: bool = Field(default=True, description="Promote when the gate passes.")
    margins: MetricMargins = Field(default=MetricMargins(), description="Bounds of the gate.")


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


class TrackingConfig(Section):
    """Where metrics go."""

    experiment: str = Field(
        default="boothline", pattern=r"^[\w .-]{1,100}$", description="MLflow experiment."
    )


class RunConfig(Section):
    """Every setting of one run."""

    subject: SubjectConfig = Field(default=SubjectConfig(), description="What is learnt.")
    base_model: BaseModelConfig = Field(default=BaseModelConfig(), description="Where it starts.")
    prior: PriorConfig = Field(default=PriorConfig(), description="Class prior.")
    training: TrainingConfig = Field(default=TrainingConfig(), description="Fine-tuning.")
    checkpoints: CheckpointConfig = Field(
        default=CheckpointConfig(), description="Training states."
    )
    evaluation: EvaluationConfig = Field(default=EvaluationConfig(), description="Judgement.")
    promotion: PromotionConfig = Field(default=PromotionConfig(), description="The gate.")
    inference: InferenceConfig = Field(default=InferenceConfig(), description="Serving.")
    tracking: TrackingConfig = Field(default=TrackingConfig(), description="Tracking.")

    @property
    def model_name(self) -> str:
        """Name of the registered model: one per subject."""
        return f"boothline-{re.sub(r'[^a-z0-9-]', '-', self.subject.name)}"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.prior.enabled and self.prior.num_shards > self.prior.num_images:
            raise ValueError(
                f"prior.num_shards ({self.prior.num_shards}) exceeds prior.num_images; "
                f"set prior.num_shards to {self.prior.num_images} or less"
            )
        return self
