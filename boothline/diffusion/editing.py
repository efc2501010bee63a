"""Edits pictures: image-to-image (SDEdit) and inpainting by blending latents.

Image-to-image starts from the picture, noised to a part of the way (Meng et al., "SDEdit", ICLR
2022). Inpainting besides puts the noised picture back outside the mask after every step (Avrahami
et al., "Blended latent diffusion", SIGGRAPH 2023), so that any text-to-image model can do it.

Shapes: B pictures, C latent channels, H and W sides.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from boothline.buckets import Size
from boothline.data.decoder import Picture as DecodedPicture
from boothline.data.decoder import Unreadable, decode_all
from boothline.data.limits import Limits, scratch_folder
from boothline.diffusion.loading import DiffusionParts
from boothline.errors import DataError

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

logger = logging.getLogger(__name__)

DEFAULT_STRENGTH = 0.8
_MASK_LEVEL = 128


@dataclass(frozen=True, kw_only=True)
class Edit:
    """A picture to start from.

    Attributes:
        image: its file.
        mask: file of the mask: white is repainted, black is kept exactly; unset: all is.
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
        scheduler: from `make_scheduler`; set to where the edit begins.
        edits: one a row, all of one kind.
        noise_BCHW: start noise, standard normal.
    """

    def __init__(
        self,
        pipeline: DiffusionParts,
        scheduler: "SchedulerMixin",
        *,
        edits: Sequence[Edit],
        noise_BCHW: torch.Tensor,
    ) -> None:
        self._scheduler = scheduler
        self._noise_BCHW = noise_BCHW
        scale = pipeline.vae_scale
        size = (noise_BCHW.shape[3] * scale, noise_BCHW.shape[2] * scale)
        self._pixels_BHWC, sizes = _pixels_of(edits, size)
        self._clean_BCHW = _encode(pipeline, self._pixels_BHWC)
        self._mask_BHW: torch.Tensor | None = None
        self._mask_latents_BCHW: torch.Tensor | None = None
        if edits[0].mask is not None:
            self._mask_BHW = _masks_of(edits, size, sizes=sizes)
            # A latent is repainted when any of its pixels is.
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
            noise: torch.Tensor = self._noise_BCHW * start_level(self._scheduler)
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
        if hasattr(self._scheduler, "add_noise"):
            noised: torch.Tensor = self._scheduler.add_noise(
                self._clean_BCHW, self._noise_BCHW, timesteps
            )
        else:
            noised = self._scheduler.scale_noise(self._clean_BCHW, timesteps, self._noise_BCHW)
        return noised


def start_level(scheduler: "SchedulerMixin") -> float | torch.Tensor:
    """Return the standard deviation of the start noise; flow matching begins with plain noise."""
    level: float | torch.Tensor = getattr(scheduler, "init_noise_sigma", 1.0)
    return level


def _encode(pipeline: DiffusionParts, pixels_BHWC: torch.Tensor) -> torch.Tensor:
    """Return latents_BCHW, float32, of uint8 pixels: the mode of the autoencoder's posterior."""
    vae = pipeline.vae
    pixels_BCHW = pixels_BHWC.permute(0, 3, 1, 2).float() / 127.5 - 1
    moments = pipeline.family.moments(vae, pixels_BCHW.to(vae.device, vae.dtype))
    return pipeline.latent_scale.scaled(moments.chunk(2, dim=1)[0].float())


@contextmanager
def _decoded(
    paths: Sequence[Path], size: Size, *, interpolation: str
) -> Iterator[list[DecodedPicture]]:
    """Decode picture files as training pictures are: by the confined worker, in sRGB, cut to size.

    Raises:
        DataError: one is not a usable picture.
    """
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None:
        raise DataError(f"{missing} cannot be read.", remedy="Check its path.")
    with scratch_folder("boothline-edit-") as folder:
        results = decode_all(
            paths, sizes_px=[size], folder=folder, limits=Limits(), interpolation=interpolation
        )
        yield [_usable(path, result) for path, result in zip(paths, results, strict=True)]


def _usable(path: Path, result: DecodedPicture | Unreadable) -> DecodedPicture:
    """Return a decoded picture, and say what had to be done with it.

    Raises:
        DataError: it is not a usable picture.
    """
    if isinstance(result, Unreadable):
        raise DataError(f"{path} {result.reason}.", remedy=result.advice)
    for remark in result.remarks:
        logger.info("%s %s.", path, remark)
    for note in result.notes:
        logger.warning("%s %s.", path, note)
    return result


def _pixels_of(edits: Sequence[Edit], size: Size) -> tuple[torch.Tensor, list[Size]]:
    """Return the pictures of some edits as pixels_BHWC, uint8, and the sizes of their files."""
    with _decoded([edit.image for edit in edits], size, interpolation="lanczos") as pictures:
        pixels = [np.array(picture.cut()) for picture in pictures]
        sizes = [(picture.width_px, picture.height_px) for picture in pictures]
    return torch.from_numpy(np.stack(pixels)), sizes


def _masks_of(edits: Sequence[Edit], size: Size, *, sizes: Sequence[Size]) -> torch.Tensor:
    """Return the masks of some edits as mask_BHW, bool.

    Raises:
        DataError: mask and picture differ in size.
    """
    paths = [Path(str(edit.mask)) for edit in edits]
    with _decoded(paths, size, interpolation="nearest") as masks:
        for edit, mask, (width_px, height_px) in zip(edits, masks, sizes, strict=True):
            if (mask.width_px, mask.height_px) != (width_px, height_px):
                raise DataError(
                    f"{edit.mask} has {mask.width_px} x {mask.height_px} pixels, {edit.image} has "
                    f"{width_px} x {height_px}.",
                    remedy="Draw the mask on a copy of the picture: white is repainted.",
                )
        levels = [np.array(mask.cut().convert("L")) for mask in masks]
    return torch.from_numpy(np.stack(levels) >= _MASK_LEVEL)
