"""Trains the UNet to denoise latents under captions, with the text tower frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from boothline.diffusion.devices import faster_attention
from models.build.recipe import UnetSize
from models.build.stage import StepDraw
from models.build.tokenizer import tokenize

SCHEDULE: Final[dict[str, object]] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.02,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
"""The noise schedule. It ends noisier than Stable Diffusion's (0.012): on 16 x 16 latents less
noise leaves the mean colour readable in the last step, and plain backgrounds come out grey."""

_CAPTION_DROP_RATE = 0.1
_MIN_SNR_GAMMA = 5.0


def build_unet(size: UnetSize, *, latent_channels: int, text_width: int) -> UNet2DConditionModel:
    """Return an untrained UNet for 16 x 16 latents."""
    down = ["CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in size.attention]
    up = ["CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(size.attention)]
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=latent_channels,
        out_channels=latent_channels,
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        block_out_channels=size.channels,
        layers_per_block=size.layers_per_block,
        cross_attention_dim=text_width,
        # diffusers reads this as the number of heads of each level
        attention_head_dim=tuple(width // size.head_width for width in size.channels),
    )


@dataclass(frozen=True)
class LatentScenes:
    """Scenes as the UNet sees them.

    Attributes:
        latents_NCHW: float16 (N, C, 16, 16), scaled to unit spread.
        caption_numbers: int64 (N,), row of each scene's caption in `text_states`.
        text_states: float16 (M, T, D), the text tower's last states of the M distinct captions.
        empty_state: float32 (T, D), of the empty caption.
    """

    latents_NCHW: torch.Tensor
    caption_numbers: torch.Tensor
    text_states: torch.Tensor
    empty_state: torch.Tensor


@torch.no_grad()
def read_captions(
    text_encoder: CLIPTextModel,
    *,
    tokenizer: CLIPTokenizer,
    captions: Sequence[str],
    batch_size: int = 256,
) -> torch.Tensor:
    """Return the last hidden states, float32 (N, T, D), of captions."""
    device = next(text_encoder.parameters()).device
    text_encoder.eval()
    states = []
    for first in range(0, len(captions), batch_size):
        tokens = torch.tensor(tokenize(tokenizer, captions[first : first + batch_size]))
        states.append(text_encoder(input_ids=tokens.to(device)).last_hidden_state.float().cpu())
    return torch.cat(states)


def gather_latent_scenes(
    latents_NCHW: torch.Tensor,
    *,
    captions: Sequence[str],
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
) -> LatentScenes:
    """Return latents with their captions read once by the frozen text tower."""
    distinct = sorted(set(captions))
    number = {caption: row for row, caption in enumerate(distinct)}
    states = read_captions(text_encoder, tokenizer=tokenizer, captions=[*distinct, ""])
    return LatentScenes(
        latents_NCHW=latents_NCHW.half(),
        caption_numbers=torch.tensor([number[caption] for caption in captions]),
        text_states=states[:-1].half(),
        empty_state=states[-1],
    )


class UnetObjective:
    """The denoising loss of latent diffusion with min-SNR weights and dropped captions.

    Weights: Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy".
    Dropped captions: Ho and Salimans 2022, "Classifier-Free Diffusion Guidance".

    Args:
        model: the UNet.
        scenes: latents and captions.
        batch_size: latents in a step.
        compiled: compile the forward and backward passes; the shapes never change.
    """

    def __init__(
        self,
        model: UNet2DConditionModel,
        *,
        scenes: LatentScenes,
        batch_size: int,
        compiled: bool = False,
    ) -> None:
        self._denoise = torch.compile(model, dynamic=False) if compiled else model
        self.modules: Mapping[str, nn.Module] = {"unet": model}
        self._scenes = scenes
        self._batch_size = batch_size
        self._scheduler = DDIMScheduler(**SCHEDULE)
        alphas = self._scheduler.alphas_cumprod
        self._snr = alphas / (1 - alphas)

    def loss(self, draw: StepDraw) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the weighted loss of one step and the plain mean squared error."""
        count = self._batch_size
        picked = torch.from_numpy(
            np.sort(draw.indices(count, below=len(self._scenes.caption_numbers)))
        )
        latents = self._scenes.latents_NCHW[picked].float().to(draw.device)
        text = self._scenes.text_states[self._scenes.caption_numbers[picked]].float()
        dropped = torch.from_numpy(draw.rng.random(count) < _CAPTION_DROP_RATE)
        text = torch.where(dropped[:, None, None], self._scenes.empty_state, text).to(draw.device)
        timesteps = self._stratified_timesteps(count, draw=draw)
        noise = draw.normal(*latents.shape)
        noisy = self._scheduler.add_noise(latents, noise, timesteps)
        precision = "bf16" if torch.is_autocast_enabled(noisy.device.type) else "fp32"
        with faster_attention(noisy, precision=precision):
            predicted = self._denoise(noisy, timesteps, text).sample.float()
        error = (predicted - noise).pow(2).mean(dim=(1, 2, 3))
        snr = self._snr.to(draw.device)[timesteps]
        weight = snr.clamp(max=_MIN_SNR_GAMMA) / snr
        return (weight * error).mean(), {"mse": float(error.mean().detach())}

    def _stratified_timesteps(self, count: int, *, draw: StepDraw) -> torch.Tensor:
        """Return timesteps spread evenly over the schedule, in random order: less variance."""
        slots = torch.from_numpy(draw.rng.permutation(count)).to(draw.device)
        places = (slots + draw.uniform(count)) / count
        total = int(self._scheduler.config.num_train_timesteps)
        return (places * total).long().clamp(max=total - 1)
