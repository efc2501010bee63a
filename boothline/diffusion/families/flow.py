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

    from boothline.diffusion.loading import DiffusionParts

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

    def load_schedule(self, folder: Path) -> Any:  # noqa: ANN401 - a scheduler of diffusers
        """Return the folder's flow-matching scheduler."""
        from diffusers import FlowMatchEulerDiscreteScheduler

        from boothline.diffusion.layout import read_json

        config = read_json(folder / "scheduler" / "scheduler_config.json")
        return FlowMatchEulerDiscreteScheduler.from_config(config)

    def sigmas(self, num_steps: int) -> list[float] | None:
        """Return the noise levels of the steps before they are shifted; None: the scheduler's."""
        return None

    def sampling_scheduler(
        self,
        schedule: Any,  # noqa: ANN401 - a scheduler of diffusers
        sampling: SamplingConfig,
        *,
        num_tokens: int,
        device: "torch.device | str",
    ) -> Any:  # noqa: ANN401 - a scheduler of diffusers
        """Return Euler's sampler with levels shifted for the size."""
        from diffusers import FlowMatchEulerDiscreteScheduler

        scheduler = FlowMatchEulerDiscreteScheduler.from_config(schedule.config)
        arguments: dict[str, Any] = {}
        if scheduler.config.use_dynamic_shifting:
            arguments["mu"] = self._exponent(schedule.config, num_tokens)
        if (sigmas := self.sigmas(sampling.num_steps)) is not None:
            arguments["sigmas"] = sigmas
        scheduler.set_timesteps(sampling.num_steps, device=device, **arguments)
        return scheduler

    def shift(self, schedule: Any, *, num_tokens: int) -> float:  # noqa: ANN401
        """Return the factor a of the shift s -> a s / (1 + (a - 1) s) for pictures of a size."""
        config = schedule.config
        if not config.use_dynamic_shifting:
            return float(config.shift)
        exponent = self._exponent(config, num_tokens)
        return exponent if config.time_shift_type == "linear" else math.exp(exponent)

    def _exponent(self, config: Any, num_tokens: int) -> float:  # noqa: ANN401
        """Return a linear function of the number of tokens."""
        low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
        least, most = config.get("base_shift", 0.5), config.get("max_shift", self.max_shift)
        slope = (most - least) / (high - low)
        return float(num_tokens * slope + (least - slope * low))

    def check_side_px(self, model: "DiffusionParts") -> int:
        """Return a side of at most 32 tokens: large models take long on a CPU."""
        return min(self.resolution_px(model), 32 * self.side_multiple(model))

    def side_multiple(self, model: "DiffusionParts") -> int:
        """Return the pixels of one token: two by two latents."""
        return 2 * model.vae_scale

    def num_tokens(self, model: "DiffusionParts", *, height: int, width: int) -> int:
        """Return the number of squares of two by two latents."""
        return (height // 2) * (width // 2)
