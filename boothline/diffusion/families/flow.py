"""What families trained by flow matching share: the shift of the noise levels and Euler's sampler.

Noise level s in (0, 1): z_s = (1 - s) z + s e, the target is e - z (Lipman et al., "Flow matching
for generative modeling", 2023; Esser et al., "Scaling rectified flow transformers for
high-resolution image synthesis", 2024). The shift of Esser et al., equation 23, moves levels
towards noise for larger pictures.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from boothline.config.sampling import SamplingConfig
from boothline.diffusion.families.family import Family

if TYPE_CHECKING:
    import torch
    from diffusers import SchedulerMixin

    from boothline.diffusion.loading import DiffusionParts

_LATENT_SIDE = 128
TEXT_ATTENTION = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
"""Attention of the text's own stream, where text and picture attend to each other."""

Density = Literal["uniform", "logit_normal", "shifted"]


class FlowFamily(Family):
    """A transformer trained by flow matching; low-rank adapters are trained on it.

    Attributes:
        density: of noise levels in training, where training.timestep_density names none.
        max_shift: largest exponent of a shift that grows with the picture, where the scheduler
            names none.
    """

    methods = ("lora",)
    trains_text_encoders = False
    samplers = ("euler",)
    convolutional = False
    is_flow = True
    density: ClassVar[Density]
    max_shift: ClassVar[float] = 1.15

    def load_schedule(self, folder: Path) -> "SchedulerMixin":
        """Return the folder's flow-matching scheduler."""
        from diffusers import FlowMatchEulerDiscreteScheduler

        from boothline.diffusion.layout import read_json

        config = read_json(folder / "scheduler" / "scheduler_config.json")
        return FlowMatchEulerDiscreteScheduler.from_config(config)

    def sigmas(self, num_steps: int) -> list[float] | None:
        """Return the noise levels of the steps before they are shifted; None: the scheduler's.

        They go from 1 down to one step above 0.
        """
        import numpy as np

        return [float(level) for level in np.linspace(1.0, 1 / num_steps, num_steps)]

    def sampling_scheduler(
        self,
        schedule: "SchedulerMixin",
        sampling: SamplingConfig,
        *,
        num_tokens: int,
        device: "torch.device | str",
    ) -> "SchedulerMixin":
        """Return Euler's sampler with levels shifted for the size."""
        from diffusers import FlowMatchEulerDiscreteScheduler

        # The levels of a single step cannot be stretched to end at another than 1.
        unstretched = {"shift_terminal": None} if sampling.num_steps == 1 else {}
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(schedule.config, **unstretched)
        arguments: dict[str, Any] = {}
        if scheduler.config.use_dynamic_shifting:
            arguments["mu"] = self.exponent(
                schedule.config, num_tokens=num_tokens, num_steps=sampling.num_steps
            )
        if (sigmas := self.sigmas(sampling.num_steps)) is not None:
            arguments["sigmas"] = sigmas
        scheduler.set_timesteps(sampling.num_steps, device=device, **arguments)
        return scheduler

    def shift(self, schedule: "SchedulerMixin", *, num_tokens: int) -> float:
        """Return the factor a of the shift s -> a s / (1 + (a - 1) s) for pictures of a size."""
        config = schedule.config
        if not config.use_dynamic_shifting:
            return float(config.shift)
        exponent = self.exponent(config, num_tokens=num_tokens)
        return exponent if config.time_shift_type == "linear" else math.exp(exponent)

    def exponent(
        self,
        config: Any,  # noqa: ANN401
        *,
        num_tokens: int,
        num_steps: int | None = None,
    ) -> float:
        """Return the exponent of a shift that grows with the picture, linear in its tokens.

        Args:
            config: of the scheduler.
            num_tokens: of the picture.
            num_steps: of sampling; None: in training.
        """
        low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
        least, most = config.get("base_shift", 0.5), config.get("max_shift", self.max_shift)
        slope = (most - least) / (high - low)
        return float(num_tokens * slope + (least - slope * low))

    def resolution_px(self, model: "DiffusionParts") -> int:
        """Return the side that the transformer names, or else the pipelines' own."""
        side = model.denoiser.config.get("sample_size", _LATENT_SIDE)
        return int(side) * model.vae_scale

    def check_side_px(self, model: "DiffusionParts") -> int:
        """Return a side of at most 32 tokens: large models take long on a CPU."""
        return min(self.resolution_px(model), 32 * self.side_multiple(model))

    def side_multiple(self, model: "DiffusionParts") -> int:
        """Return the pixels of one token: two by two latents."""
        return 2 * model.vae_scale

    def num_tokens(self, model: "DiffusionParts", *, height: int, width: int) -> int:
        """Return the number of squares of two by two latents."""
        return (height // 2) * (width // 2)


def text_length(model: "DiffusionParts", name: str, *, longest: int) -> int:
    """Return the length of a tokenised text for a text encoder without a limit of its own.

    Args:
        model: whose tokenizer may name a shorter one.
        name: of the text encoder.
        longest: what diffusers' pipeline takes.
    """
    tokenizer = model.tokenizer_of(name)
    return longest if tokenizer is None else min(longest, int(tokenizer.model_max_length))


def packed(latents_BCHW: "torch.Tensor") -> "torch.Tensor":
    """Return latents as tokens of two by two: (B, H/2 x W/2, 4C)."""
    count, channels, height, width = latents_BCHW.shape
    squares = latents_BCHW.view(count, channels, height // 2, 2, width // 2, 2)
    return squares.permute(0, 2, 4, 1, 3, 5).reshape(count, -1, channels * 4)


def unpacked(tokens_BTD: "torch.Tensor", *, height: int, width: int) -> "torch.Tensor":
    """Return tokens of two by two as latents of a size again: (B, C, H, W)."""
    count, _, features = tokens_BTD.shape
    squares = tokens_BTD.view(count, height // 2, width // 2, features // 4, 2, 2)
    return squares.permute(0, 3, 1, 4, 2, 5).reshape(count, features // 4, height, width)
