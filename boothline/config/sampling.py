"""How pictures are sampled: shared by the prior, the evaluation and inference."""

from typing import Any, Literal

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
    def _leave_out_fp32(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave the keys of steps, which hold this, as they were before there was a precision."""
        values: dict[str, Any] = serialize(self)
        return {k: v for k, v in values.items() if (k, v) != ("precision", "fp32")}
