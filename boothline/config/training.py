"""`training` and `checkpoints`: fine-tuning and its states."""

from typing import Final, Literal, Self

from pydantic import Field, model_validator

from boothline.config.section import SUBJECT_FIELD, Section

FrozenPrecision = Literal["fp32", "bf16", "fp8", "nf4"]
MIN_PRODIGY_RATE = 0.01
CAPTION_FIELD = "{caption}"
ATTENTION: Final = ("to_q", "to_k", "to_v", "to_out.0")


class LoraConfig(Section):
    """Low-rank adapters; used when training.method is lora."""

    rank: int = Field(default=8, ge=1, le=1024, description="Rank of the update.")
    alpha: float = Field(default=8.0, gt=0, le=4096, description="Scale: alpha / rank.")
    dora: bool = Field(
        default=False,
        description="Weight-decomposed LoRA (DoRA). Its adapter is published in the diffusers "
        "format alone: diffusers does not read DoRA under A1111 (kohya) names.",
    )
    targets: tuple[str, ...] = Field(
        default=ATTENTION,
        min_length=1,
        description="Layers of the denoiser that get an adapter, by the end of their names: by "
        "default all attention, whatever the family calls it (docs/families.md); in a UNet "
        "ff.net.0.proj, ff.net.2, proj_in and proj_out add the rest of its blocks.",
    )
    text_encoder: bool = Field(
        default=True,
        description="Adapters on the text encoder too; it stays frozen without, or when "
        "training.train_text_encoder is false.",
    )
    text_encoder_targets: tuple[str, ...] = Field(
        default=("q_proj", "k_proj", "v_proj", "out_proj"),
        min_length=1,
        description="Layers of the text encoder that get an adapter; fc1 and fc2 are the others.",
    )


class TokenEmbeddingConfig(Section):
    """A token of its own for each subject, of which the embedding is learnt (pivotal tuning)."""

    enabled: bool = Field(
        default=False,
        description="Make the identifier a new token and train its row of the text encoder's "
        "table; all other rows stay as they are. Of a text encoder nothing else but adapters may "
        "be trained then.",
    )
    learning_rate: float = Field(
        default=5e-4, gt=0, le=1, description="Peak learning rate of the row."
    )
    init_word: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Word that the row starts from; of several tokens their mean; unset: the class "
        "noun.",
    )


class ValidationConfig(Section):
    """Judgement of the model while it trains; it never changes the steps of the training."""

    every_steps: int = Field(
        default=0,
        ge=0,
        description="Steps between validations (and one at the end): the denoising loss at fixed "
        "draws, and a sample sheet scored by the encoders and the blend of evaluation; 0: none.",
    )
    hold_out: int = Field(
        default=0,
        ge=0,
        le=100,
        description="Instance pictures, the last by file name, that are kept out of the training "
        "and have a validation loss of their own.",
    )
    num_draws: int = Field(
        default=8,
        ge=1,
        le=1000,
        description="Fixed (timestep, noise) draws of each picture in the validation loss.",
    )
    choose: Literal["last", "best"] = Field(
        default="last",
        description="State that is published: the last, or the one with the best validation "
        "score, which is kept in addition to the newest.",
    )
    patience: int = Field(
        default=0,
        ge=0,
        description="Validations in a row without a better score that end the training early; 0: "
        "never.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.every_steps and (self.hold_out or self.patience or self.choose == "best"):
            raise ValueError(
                "training.validation hold_out, patience and choose=best need validations; set "
                "training.validation.every_steps to the steps between them, e.g. 50"
            )
        return self


class TrainingConfig(Section):
    """Fine-tuning of the UNet and the text encoder."""

    method: Literal["full", "lora"] = Field(
        default="full",
        description="What is trained: all weights (full), or low-rank adapters next to them "
        "(lora), which are published both merged into the model and as files of their own.",
    )
    lora: LoraConfig = Field(default=LoraConfig(), description="Adapter settings.")
    validation: ValidationConfig = Field(
        default=ValidationConfig(), description="Judgement while it trains."
    )
    token_embedding: TokenEmbeddingConfig = Field(
        default=TokenEmbeddingConfig(), description="A learnt token."
    )
    num_steps: int = Field(default=150, ge=1, le=1_000_000, description="Optimizer steps.")
    batch_size: int = Field(
        default=4, ge=1, le=1024, description="Instance pictures per optimizer step over all ranks."
    )
    accumulation: int = Field(
        default=1, ge=1, le=1024, description="Micro-batches per optimizer step and rank."
    )
    num_processes: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="World size of one node; unset: a rank for each GPU, of as many as share the "
        "batch evenly, and without a GPU one rank with all cores.",
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
    scale_learning_rate: bool = Field(
        default=False,
        description="Multiply both peak learning rates by training.batch_size, the global batch, "
        "so that a rate stays fit when the batch grows.",
    )
    schedule: Literal["constant", "cosine", "linear", "polynomial"] = Field(
        default="constant", description="Learning-rate schedule after warm-up."
    )
    warmup_steps: int = Field(default=10, ge=0, description="Linear warm-up, in optimizer steps.")
    optimizer: Literal["adamw", "adamw8bit", "adafactor", "prodigy", "lion"] = Field(
        default="adamw",
        description="adamw (fused); adafactor (a fraction of the memory); with the extra "
        "optimizers: prodigy (finds its learning rate; set training.learning_rate to 1), lion "
        "(half the memory; wants a third of the rate and training.beta2 0.99), adamw8bit (states "
        "in 8 bits; needs CUDA).",
    )
    weight_decay: float = Field(default=0.01, ge=0, le=1, description="Decoupled weight decay.")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="Adam beta 1; unused by adafactor.")
    beta2: float = Field(default=0.999, ge=0, lt=1, description="Adam beta 2; as beta1.")
    max_grad_norm: float = Field(default=1.0, gt=0, description="Gradient clipping threshold.")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        default="fp32", description="Compute precision; weights stay fp32."
    )
    frozen_precision: FrozenPrecision = Field(
        default="fp32",
        description="What the denoiser's weights beneath adapters are kept in; needs method lora "
        "and precision bf16. bf16 computes the same with half the memory; fp8 takes half of "
        "bf16's, nf4 a quarter of it, on CUDA alone, with the extra optimizers.",
    )
    shard_frozen: bool = Field(
        default=False,
        description="Share out the denoiser's weights beneath adapters over the ranks (FSDP2): "
        "each holds its part and gathers the rest block by block, which takes time and saves "
        "memory; the result differs by rounding at most. Needs method lora; with one rank it "
        "saves nothing.",
    )
    gradient_checkpointing: bool = Field(default=False, description="Trade compute for memory.")
    compile: bool = Field(
        default=False,
        description="Compile the UNet before the first step (torch.compile), which takes "
        "minutes; needs a C++ compiler, or triton on CUDA, and is "
        "skipped where there is none.",
    )
    deterministic: bool = Field(
        default=False,
        description="Only kernels that give the same bits each time (deterministic algorithms, "
        "cuBLAS with workspaces of its own, attention without fused backward passes): slower, and "
        "needed on CUDA for a resumed training to end with the same bits; on a CPU trainings do "
        "so without.",
    )
    ema_decay: float | None = Field(
        default=None, gt=0, lt=1, description="Decay of the weight average; unset: none."
    )
    timestep_density: Literal["uniform", "logit_normal", "shifted"] | None = Field(
        default=None,
        description="Density of the noise levels of flow matching: shifted is logit-normal moved "
        "towards noise as the model's scheduler says; unset: the usual one of the model's family.",
    )
    min_snr_gamma: float | None = Field(
        default=None, gt=0, description="Min-SNR loss weighting on both halves; unset: none."
    )
    huber_delta: float | None = Field(
        default=None,
        gt=0,
        le=100,
        description="Huber loss: errors beyond delta count linearly instead of squared, which "
        "softens outliers; unset: squared error.",
    )
    noise_offset: float = Field(default=0.0, ge=0, le=1, description="Offset noise strength.")
    horizontal_flip: bool = Field(default=False, description="Flip instance pictures at random.")
    repeats: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="Times that each instance picture stands in an epoch; the order is shuffled "
        "over all of them, so that more repeats make the order less even.",
    )
    random_crops: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="Random crops made of each instance picture, of which each sample takes one; "
        "0: always the whole picture, which validate_data has cropped to its centre.",
    )
    crop_scale: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="Smallest side of a random crop, as a fraction of the picture's side.",
    )
    interpolation: Literal["bilinear", "bicubic", "lanczos"] = Field(
        default="bicubic", description="How a random crop is scaled to subject.resolution_px."
    )
    caption_templates: tuple[str, ...] = Field(
        default=(),
        max_length=100,
        description="Captions of the instance pictures, one drawn for each sample: {subject} is "
        "identifier and class noun, {caption} the picture's own caption; none: its own caption.",
    )
    caption_dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Probability with which a sample is trained on the empty prompt instead of its "
        "caption (Ho and Salimans, Classifier-free diffusion guidance, 2022: 0.1 to 0.2), so that "
        "what guidance subtracts is trained too; 0: never.",
    )
    caches: bool = Field(
        default=True,
        description="Encode each picture (and each caption, when the text encoder is frozen) once "
        "instead of every step; the result is the same to the bit.",
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of all draws of the training.")
    sample_every_steps: int = Field(
        default=50, ge=0, description="Steps between sample sheets; 0: only at the end."
    )
    sample_early: bool = Field(
        default=False,
        description="Sample sheets after steps 1, 2, 4, 8, ... too, up to the first of the others: "
        "most of what a model learns, it learns early.",
    )

    def num_ranks(self, *, num_gpus: int = 0) -> int:
        """Return the world size of one node that has so many GPUs."""
        if self.num_processes is not None:
            return self.num_processes
        slots = self.batch_size // self.accumulation
        return max((n for n in range(1, num_gpus + 1) if slots % n == 0), default=1)

    @property
    def trains_text_encoder(self) -> bool:
        """Whether the text encoder, or an adapter on it, is trained."""
        return self.train_text_encoder and (self.method == "full" or self.lora.text_encoder)

    @property
    def runs_text_encoder(self) -> bool:
        """Whether the text encoder is run in every step: something in it is trained."""
        return self.trains_text_encoder or self.token_embedding.enabled

    @model_validator(mode="after")
    def _check(self) -> Self:
        micro = self.num_ranks() * self.accumulation
        if self.batch_size % micro:
            raise ValueError(
                f"training.batch_size ({self.batch_size}) must be a multiple of num_processes x "
                f"accumulation ({micro}); set training.batch_size to a multiple of {micro}"
            )
        for template in self.caption_templates:
            if SUBJECT_FIELD not in template and CAPTION_FIELD not in template:
                raise ValueError(
                    f"training.caption_templates: {template!r} has neither {SUBJECT_FIELD} nor "
                    f"{CAPTION_FIELD}; without one the subject has no name"
                )
        if self.optimizer == "prodigy":
            self._check_prodigy()
        lowered = self.frozen_precision != "fp32"
        if lowered and (self.method != "lora" or self.precision != "bf16"):
            raise ValueError(
                f"training.frozen_precision {self.frozen_precision} is for weights beneath "
                "adapters that are computed in bf16; set training.method to lora and "
                "training.precision to bf16"
            )
        if self.shard_frozen:
            self._check_sharding()
        if self.token_embedding.enabled and self.method == "full" and self.train_text_encoder:
            raise ValueError(
                "training.token_embedding trains one row of the text encoder, and "
                "training.train_text_encoder all of it; set training.train_text_encoder to false, "
                "or training.method to lora"
            )
        return self

    def _check_sharding(self) -> None:
        """Refuse what cannot be sharded: trained weights, and what FSDP2 cannot cut or compile."""
        if self.method != "lora":
            raise ValueError(
                "training.shard_frozen is for weights beneath adapters; set training.method to lora"
            )
        if self.frozen_precision == "nf4":
            raise ValueError(
                "training.shard_frozen cannot cut weights in nf4; set training.frozen_precision to "
                "fp8 or bf16"
            )
        if self.compile:
            raise ValueError(
                "training.shard_frozen gathers weights between the blocks of a network that "
                "training.compile makes one of; set training.compile to false"
            )

    def _check_prodigy(self) -> None:
        """Refuse what makes Prodigy useless: its rate is a factor of the one it finds."""
        if self.learning_rate < MIN_PRODIGY_RATE or self.scale_learning_rate:
            raise ValueError(
                f"training.optimizer prodigy finds the learning rate itself and multiplies it by "
                f"training.learning_rate ({self.learning_rate:g}); set training.learning_rate to 1 "
                "and training.scale_learning_rate to false"
            )
        if self.text_encoder_learning_rate not in (None, self.learning_rate):
            raise ValueError(
                "training.optimizer prodigy has one learning rate; leave "
                "training.text_encoder_learning_rate unset"
            )
        embedding = self.token_embedding
        if embedding.enabled and embedding.learning_rate != self.learning_rate:
            raise ValueError(
                "training.optimizer prodigy has one learning rate; set "
                f"training.token_embedding.learning_rate to {self.learning_rate:g}"
            )


class CheckpointConfig(Section):
    """Training states kept in the store."""

    every_steps: int = Field(default=50, ge=1, description="Steps between training states.")
    keep_last: int = Field(default=2, ge=2, le=100, description="Newest states kept.")
