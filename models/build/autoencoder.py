"""Trains the autoencoder: pictures to 16 x 16 latents and back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from models.build.backgrounds import WORLD_PX
from models.build.recipe import AutoencoderSize
from models.build.stage import StepDraw

_ERROR_WEIGHT = 2.5
_DETAIL_WEIGHT = 10.0
_NEIGHBOURHOOD_PX = 5
_LATENT_NOISE = 0.1
_LATENT_NOISE_OF_DECODER = 0.2
_DRIFT_WEIGHT = 0.02


def build_autoencoder(size: AutoencoderSize) -> AutoencoderKL:
    """Return an untrained autoencoder that shrinks pictures four times."""
    levels = len(size.channels)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=size.channels,
        layers_per_block=size.layers_per_block,
        latent_channels=size.latent_channels,
        norm_num_groups=size.norm_groups,
        sample_size=WORLD_PX,
        mid_block_add_attention=False,
    )


def to_tensor(pixels_NHWC: NDArray[np.uint8]) -> torch.Tensor:
    """Return uint8 pictures (N, H, W, 3) as float32 (N, 3, H, W) in [-1, 1]."""
    pixels = torch.from_numpy(np.array(pixels_NHWC)).permute(0, 3, 1, 2)
    return pixels.float().div_(127.5).sub_(1.0)


class AutoencoderObjective:
    """Reconstruction and a light pull of the latents towards a unit normal.

    The squared error of a pixel weighs more where the picture has detail: an eye of two pixels is
    nothing in a mean over the picture, and all of a face.

    Args:
        model: the autoencoder.
        pixels: blocks of training scenes, each uint8 (N, H, W, 3); drawn from in equal parts.
        batch_size: pictures in a step.
        kl_weight: of the pull.
        decoder_only: keep the encoder as it is, so that latents made earlier stay valid. Either way
            the decoder sees noise on the latents, up to 0.1 of each channel's spread, alone up to
            0.2: what a UNet leaves of it would come out as grain.
        near: an encoder whose latents the first channels stay near, so that a UNet that knows them
            can be trained further; None binds them to nothing.
        compiled: compile the decoder; the shapes never change.
    """

    def __init__(
        self,
        model: AutoencoderKL,
        *,
        pixels: tuple[NDArray[np.uint8], ...],
        batch_size: int,
        kl_weight: float = 1e-4,
        decoder_only: bool = False,
        near: AutoencoderKL | None = None,
        compiled: bool = False,
    ) -> None:
        self.model = model
        self._near = near
        self._decode = torch.compile(model.decoder, dynamic=False) if compiled else model.decoder
        self._kl_weight = kl_weight
        self._latent_noise = _LATENT_NOISE_OF_DECODER if decoder_only else _LATENT_NOISE
        model.encoder.requires_grad_(not decoder_only)
        model.quant_conv.requires_grad_(not decoder_only)
        self.modules: Mapping[str, nn.Module] = {"autoencoder": model}
        self._pixels = pixels
        self._batch_size = batch_size

    def loss(self, draw: StepDraw) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the loss of one step, the PSNR (dB) and the latents' spread."""
        share = self._batch_size // len(self._pixels)
        picked = [block[np.sort(draw.indices(share, below=len(block)))] for block in self._pixels]
        pixels = to_tensor(np.concatenate(picked)).to(draw.device)
        moments = self.model.quant_conv(self.model.encoder(pixels))
        posterior = DiagonalGaussianDistribution(moments)
        latents = posterior.mean + posterior.std * draw.normal(*posterior.mean.shape)
        spread = posterior.mean.std(dim=(0, 2, 3), keepdim=True).detach()
        strength = self._latent_noise * draw.uniform(len(latents), 1, 1, 1)
        latents = latents + strength * spread * draw.normal(*latents.shape)
        restored = self._decode(self.model.post_quant_conv(latents)).float()
        drift = self._drift(posterior.mean, pixels=pixels)
        kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
        error = _ERROR_WEIGHT * (detail_weights(pixels) * (restored - pixels).pow(2)).mean()
        figures = {
            "psnr_db": psnr(restored.detach(), pixels),
            "latent_std": float(posterior.mean.std().detach()),
            "drift": float(drift.detach()),
        }
        return error + self._kl_weight * kl + _DRIFT_WEIGHT * drift, figures

    def _drift(self, latents: torch.Tensor, *, pixels: torch.Tensor) -> torch.Tensor:
        """Return the mean squared distance from the latents of the encoder to stay near."""
        if self._near is None:
            return latents.new_zeros(())
        with torch.no_grad():
            near = self._near.to(pixels.device)
            before: torch.Tensor = near.encode(pixels).latent_dist.mean
        return (latents[:, : before.shape[1]] - before).pow(2).mean()


def detail_weights(pixels: torch.Tensor) -> torch.Tensor:
    """Return weights (B, 1, H, W), mean 1 in each picture: high where it has detail.

    Detail is how far a pixel is from the mean of the 5 x 5 pixels around it.

    Args:
        pixels: (B, 3, H, W) in [-1, 1].
    """
    around = functional.avg_pool2d(
        functional.pad(pixels, (_NEIGHBOURHOOD_PX // 2,) * 4, mode="replicate"),
        _NEIGHBOURHOOD_PX,
        stride=1,
    )
    weights = 1 + _DETAIL_WEIGHT * (pixels - around).abs().mean(dim=1, keepdim=True)
    return weights / weights.mean(dim=(1, 2, 3), keepdim=True)


def psnr(restored: torch.Tensor, pixels: torch.Tensor) -> float:
    """Return the mean peak signal-to-noise ratio in dB of pictures (B, C, H, W) in [-1, 1]."""
    error = (restored.clamp(-1, 1) - pixels).pow(2).mean(dim=(1, 2, 3)).clamp_min(1e-10)
    return float((10 * torch.log10(4.0 / error)).mean())


@torch.no_grad()
def encode_all(
    model: AutoencoderKL, pixels_NHWC: NDArray[np.uint8], *, batch_size: int = 64
) -> torch.Tensor:
    """Return the latent means (N, C, 16, 16), float16, unscaled, of all pictures."""
    device = next(model.parameters()).device
    model.eval()
    latents = [
        model.encode(to_tensor(pixels_NHWC[first : first + batch_size]).to(device))
        .latent_dist.mean.half()
        .cpu()
        for first in range(0, len(pixels_NHWC), batch_size)
    ]
    return torch.cat(latents)


@torch.no_grad()
def standardise_latents(model: AutoencoderKL, *, pixels_NHWC: NDArray[np.uint8]) -> None:
    """Give every latent channel mean 0 and spread 1 without changing any reconstruction.

    The change of scale is folded into the 1 x 1 convolutions on both sides of the latents, so the
    scaling factor (1 / spread) becomes 1.

    Args:
        model: changed in place.
        pixels_NHWC: uint8 pictures over which the statistics are taken.
    """
    latents = encode_all(model, pixels_NHWC).float()
    mean, std = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    channels = len(mean)
    before, after = model.quant_conv, model.post_quant_conv
    before.bias[:channels] = (before.bias[:channels] - mean) / std
    before.weight[:channels] /= std[:, None, None, None]
    before.bias[channels:] -= 2 * std.log()
    after.bias += torch.einsum("oi,i->o", after.weight[:, :, 0, 0], mean)
    after.weight *= std[None, :, None, None]
    model.register_to_config(scaling_factor=1.0)
