"""`training` and `checkpoints`: fine-tuning and its states."""

from typing import Literal, Self

from pydantic import Field, model_validator

from boothline.config.section import Section


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
