"""How pictures are sampled, and the sections `prior` and `inference` that say which."""

from typing import Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from boothline.config.section import Section

SamplerName = Literal[
    "ddpm", "ddim", "pndm", "dpmpp_2m", "dpmpp_2m_karras", "euler", "euler_a", "unipc"
]

SamplingPrecision = Literal["fp32", "bf16", "fp16"]


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
    precision: SamplingPrecision = Field(
        default="fp32",
        description="What the denoiser and the text encoders are loaded and computed in; the "
        "autoencoder stays in fp32. bf16 and fp16 take half the memory; fp16 needs CUDA.",
    )
    seed: int = Field(
        default=0, ge=0, lt=2**31, description="Seed; picture i depends on (seed, i)."
    )

    @model_serializer(mode="wrap")
    def _leave_out_fp32(self, serialize: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leave the keys of steps, which hold this, as they were before there was a precision."""
        values: dict[str, object] = serialize(self)
        return {k: v for k, v in values.items() if (k, v) != ("precision", "fp32")}


class PriorConfig(Section):
    """The class prior: pictures of the class, sampled from the base model."""

    enabled: bool = Field(default=True, description="Use prior preservation.")
    num_images: int = Field(
        default=32,
        ge=1,
        le=100_000,
        description="Class pictures. Those of your own (`reg/` among the pictures) count; "
        "the rest is sampled.",
    )
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

    def num_sampled(self, num_own: int) -> int:
        """Return how many class pictures are sampled where the dataset holds some of its own."""
        return max(self.num_images - num_own, 0) if self.enabled else 0

    def prompt_of(self, index: int, class_noun: str) -> str:
        """Return the prompt of class picture `index`."""
        prompts = self.prompts or (self.prompt,)
        return prompts[index % len(prompts)].replace("{class}", class_noun)


class InferenceConfig(Section):
    """Batch inference with the champion after promotion."""

    version: str = Field(
        default="champion",
        pattern=r"^(champion|challenger|[1-9][0-9]*)$",
        description="Pipeline batch_inference: which version of the registered model makes the "
        "pictures: champion, challenger or a number.",
    )
    prompts_file: str | None = Field(
        default=None,
        description="Prompts as .txt, .csv or .jsonl, here or at an s3:// address; unset: "
        "evaluation.prompts.",
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
