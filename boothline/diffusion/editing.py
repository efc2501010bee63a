"""Edits pictures: image-to-image (SDEdit) and inpainting by blending latents.

Image-to-image starts from the picture, noised to a part of the way (Meng et al., "SDEdit", ICLR
2022). Inpainting besides puts the noised picture back outside the mask after every step (Avrahami
et al., "Blended latent diffusion", SIGGRAPH 2023), so that any text-to-image model can do it.

Shapes: B pictures, C latent channels, H and W sides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from boothline.data.decoding import decode as decode_picture
from boothline.diffusion.loading import DiffusionParts
from boothline.errors import DataError

DEFAULT_STRENGTH = 0.8
MAX_PIXELS = 50_000_000
_MASK_LEVEL = 128


@dataclass(frozen=True, kw_only=True)
class Edit:
    """A picture to start from.

    Attributes:
        image: its file.
        mask: file of the mask: white is painted anew, black is kept exactly; unset: all anew.
        strength: share of the denoising steps that are taken, 0 (none) to 1 (all).
    """

    image: Path
    mask: Path | None = None
    strength: float = DEFAULT_STRENGTH

    @property
    def kind(self) -> tuple[float, bool]:
        """What pictures of one batch must have in common."""
        return self.strength, self.mask is not None


class Canvas:
    """The pictures of one batch on their way through an edit.

    Args:
        pipeline: the model.
        scheduler: from `make_scheduler`; told where to begin.
        edits: one a row, all of one kind.
        noise_BCHW: start noise, standard normal.
    """

    def __init__(
        self,
        pipeline: DiffusionParts,
        scheduler: Any,  # noqa: ANN401  (diffusers has no types)
        *,
        edits: Sequence[Edit],
        noise_BCHW: torch.Tensor,
    ) -> None:
        self._scheduler = scheduler
        self._noise_BCHW = noise_BCHW
        scale = pipeline.vae_scale
        size = (noise_BCHW.shape[3] * scale, noise_BCHW.shape[2] * scale)
        pixels = [_fitted(edit.image, size, mode="RGB") for edit in edits]
        self._pixels_BHWC = torch.from_numpy(np.stack(pixels))
        self._clean_BCHW = _encode(pipeline, self._pixels_BHWC)
        self._mask_BHW: torch.Tensor | None = None
        self._mask_latents_BCHW: torch.Tensor | None = None
        if edits[0].mask is not None:
            masks = [_mask_of(edit, size) for edit in edits]
            self._mask_BHW = torch.from_numpy(np.stack(masks))
            # A latent is painted anew when any of its pixels is.
            self._mask_latents_BCHW = torch.nn.functional.max_pool2d(
                self._mask_BHW[:, None].float(), scale
            ).to(noise_BCHW.device)
        num_steps = len(scheduler.timesteps)
        kept = min(int(scheduler.num_inference_steps * edits[0].strength), num_steps)
        first = max(scheduler.num_inference_steps - kept, 0)
        self._from_noise = edits[0].strength == 1 and self._mask_BHW is not None
        self.timesteps: torch.Tensor = scheduler.timesteps[first if kept else num_steps :]
        if kept and hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(first)

    def start(self) -> torch.Tensor:
        """Return latents_BCHW to begin with: the pictures, noised as far as the strength says."""
        if len(self.timesteps) == 0:
            return self._clean_BCHW
        if self._from_noise:
            noise: torch.Tensor = self._noise_BCHW * self._scheduler.init_noise_sigma
            return noise
        return self._noised(self.timesteps[0])

    def keep(self, latents_BCHW: torch.Tensor, *, position: int) -> torch.Tensor:
        """Return the latents after step `position` with the picture put back outside the mask."""
        if self._mask_latents_BCHW is None:
            return latents_BCHW
        is_last = position + 1 == len(self.timesteps)
        outside = self._clean_BCHW if is_last else self._noised(self.timesteps[position + 1])
        return torch.lerp(outside, latents_BCHW, self._mask_latents_BCHW)

    def finish(self, pixels_BHWC: torch.Tensor) -> torch.Tensor:
        """Return uint8 pixels with those outside the mask taken from the pictures, bit for bit."""
        if self._mask_BHW is None:
            return pixels_BHWC
        return torch.where(self._mask_BHW[..., None], pixels_BHWC, self._pixels_BHWC)

    def _noised(self, timestep: torch.Tensor) -> torch.Tensor:
        """Return the pictures with the noise of a timestep, always the same noise."""
        timesteps = timestep.reshape(1).repeat(len(self._clean_BCHW))
        noised: torch.Tensor = self._scheduler.add_noise(
            self._clean_BCHW, self._noise_BCHW, timesteps
        )
        return noised


def _encode(pipeline: DiffusionParts, pixels_BHWC: torch.Tensor) -> torch.Tensor:
    """Return latents_BCHW, float32, of uint8 pixels: the mode of the autoencoder's posterior."""
    vae: Any = pipeline.vae
    pixels_BCHW = pixels_BHWC.permute(0, 3, 1, 2).float() / 127.5 - 1
    posterior = vae.encode(pixels_BCHW.to(vae.device, vae.dtype)).latent_dist
    latents: torch.Tensor = posterior.mode().float() * vae.config.scaling_factor
    return latents


def _fitted(path: Path, size: tuple[int, int], *, mode: str) -> np.ndarray[Any, Any]:
    """Return a picture file as an array of (height, width[, 3]) uint8, cropped to the size."""
    image = _read(path).convert(mode)
    if image.size != size:
        method = Image.Resampling.NEAREST if mode == "L" else Image.Resampling.LANCZOS
        image = ImageOps.fit(image, size, method=method)
    return np.array(image)


def _mask_of(edit: Edit, size: tuple[int, int]) -> np.ndarray[Any, Any]:
    """Return the mask as (height, width) bool.

    Raises:
        DataError: mask and picture differ in size.
    """
    mask = Path(str(edit.mask))
    sizes = [_read(path).size for path in (edit.image, mask)]
    if sizes[0] != sizes[1]:
        raise DataError(
            f"{mask} has {sizes[1][0]} x {sizes[1][1]} pixels, {edit.image} has "
            f"{sizes[0][0]} x {sizes[0][1]}.",
            remedy="Draw the mask on a copy of the picture: white is painted anew.",
        )
    levels: np.ndarray[Any, Any] = _fitted(mask, size, mode="L")
    return levels >= _MASK_LEVEL


def _read(path: Path) -> Image.Image:
    """Return a picture file as RGB.

    Raises:
        DataError: it is no usable picture.
    """
    try:
        return decode_picture(path, max_pixels=MAX_PIXELS).image
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror or error}.", remedy="Check its path."
        ) from error
    except DataError as error:
        raise DataError(f"{path} {error.message}.", remedy=error.remedy) from error
