"""What families of a UNet and CLIP text encoders share: the noise schedule and its samplers."""

from pathlib import Path
from typing import TYPE_CHECKING, get_args

from boothline.config.sampling import SamplerName, SamplingConfig
from boothline.diffusion.families.family import Family

if TYPE_CHECKING:
    import torch
    from diffusers import SchedulerMixin

    from boothline.diffusion.loading import DiffusionParts


class UnetFamily(Family):
    """A UNet trained on a noise schedule, conditioned by CLIP."""

    samplers = get_args(SamplerName)

    def side_multiple(self, model: "DiffusionParts") -> int:
        """Return the multiple at which every level of the UNet halves without a rest."""
        levels = len(model.denoiser.config.block_out_channels)
        return int(model.vae_scale * 2 ** (levels - 1))

    def token_lengths(self, model: "DiffusionParts") -> dict[str, int]:
        """Return what the tokenizers and the positions of CLIP allow."""
        return {name: clip_length(model, name) for name in self.text_encoders}

    def load_schedule(self, folder: Path) -> "SchedulerMixin":
        """Return the folder's noise schedule, whatever sampler the folder names."""
        from diffusers import DDPMScheduler

        from boothline.diffusion.layout import read_json

        config = read_json(folder / "scheduler" / "scheduler_config.json")
        # Latents are not bounded to [-1, 1], so clipping is wrong; not every config says so.
        return DDPMScheduler.from_config(config, clip_sample=config.get("clip_sample", False))

    def sampling_scheduler(
        self,
        schedule: "SchedulerMixin",
        sampling: SamplingConfig,
        *,
        num_tokens: int,
        device: "torch.device | str",
    ) -> "SchedulerMixin":
        """Return the sampler, which does not depend on the size."""
        from boothline.diffusion.samplers import make_scheduler

        return make_scheduler(schedule, sampling, device=device)


def clip_length(model: "DiffusionParts", name: str) -> int:
    """Return the length of a tokenised text for a CLIP text encoder."""
    positions = int(model.part(name).config.max_position_embeddings)
    tokenizer = model.tokenizer_of(name)
    return positions if tokenizer is None else min(int(tokenizer.model_max_length), positions)
