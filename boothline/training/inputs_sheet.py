"""The sheet of what a training takes in: its pictures, and what the autoencoder keeps of them."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from boothline.buckets import Size, nearest
from boothline.diffusion.loading import DiffusionParts
from boothline.pictures.sheets import contact_sheet
from boothline.training.pictures import Picture, load_pixels, open_picture

MAX_PICTURES = 8


@torch.no_grad()
def make_inputs_sheet(
    path: Path, pictures: Sequence[Picture], *, sizes: Sequence[Size], pipeline: DiffusionParts
) -> None:
    """Save the first pictures as a PNG, each above its reconstruction.

    No training can draw finer than these reconstructions.

    Args:
        path: the PNG.
        pictures: instance pictures, at least one.
        sizes: (width, height) in pixels that they are trained at.
        pipeline: the base model, whose autoencoder is frozen.
    """
    shown = [_shown(picture, sizes, pipeline) for picture in pictures[:MAX_PICTURES]]
    originals, kept = zip(*shown, strict=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet([*originals, *kept], num_columns=len(shown), gap_px=0).save(path)


def _shown(
    picture: Picture, sizes: Sequence[Size], pipeline: DiffusionParts
) -> tuple[Image.Image, Image.Image]:
    """Return a picture at its training size, and its reconstruction."""
    size = nearest(open_picture(picture).size, sizes)
    pixels_CHW = load_pixels(picture, size_px=size)
    vae = pipeline.vae
    mean = pipeline.moments(pixels_CHW[None].to(vae.device)).chunk(2, dim=1)[0]
    return _image(pixels_CHW), _image(pipeline.family.pixels(vae, mean)[0].float().cpu())


def _image(pixels_CHW: torch.Tensor) -> Image.Image:
    """Return the picture of float32 pixels in -1 to 1; what lies beyond is cut off."""
    scaled_CHW = ((pixels_CHW.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return Image.fromarray(scaled_CHW.permute(1, 2, 0).numpy())
