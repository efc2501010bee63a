"""The sheet of what a training takes in: its pictures, and what the autoencoder keeps of them."""

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from PIL import Image

from boothline.buckets import Size, nearest
from boothline.training.pictures import Picture, load_pixels, open_picture

MAX_PICTURES = 8


@torch.no_grad()
def make_inputs_sheet(
    path: Path, pictures: Sequence[Picture], *, sizes: Sequence[Size], vae: AutoencoderKL
) -> None:
    """Save the first pictures as a PNG, each above its reconstruction.

    No training can draw finer than these reconstructions.

    Args:
        path: the PNG.
        pictures: instance pictures, at least one.
        sizes: (width, height) in pixels that they are trained at.
        vae: the frozen autoencoder.
    """
    columns = [_column(picture, sizes, vae) for picture in pictures[:MAX_PICTURES]]
    height_px = max(column.shape[1] for column in columns)
    # White below the lower ones.
    padded = [
        torch.nn.functional.pad(column, (0, 0, 0, height_px - column.shape[1]), value=1.0)
        for column in columns
    ]
    sheet = ((torch.cat(padded, dim=2).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet.permute(1, 2, 0).numpy()).save(path)


def _column(picture: Picture, sizes: Sequence[Size], vae: AutoencoderKL) -> torch.Tensor:
    """Return a picture above its reconstruction: float32 on the CPU, (3, 2 x height, width)."""
    size = nearest(open_picture(picture).size, sizes)
    pixels = load_pixels(picture, size_px=size)[None]
    mean = vae.encode(pixels.to(vae.device)).latent_dist.mean
    return torch.cat([pixels, vae.decode(mean).sample.float().cpu()], dim=2)[0]
