"""How pictures are sampled: shared by the prior, the evaluation and inference."""

from typing import Literal

from pydantic import Field

from boothline.config.section import Section

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
