"""The sheet of inputs: each picture at its training size, above its reconstruction."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from boothline.diffusion.loading import load_pipeline
from boothline.training.pictures import Picture
from boothline.training.sheets import make_inputs_sheet


@pytest.mark.proves("F14/inputs")
def test_inputs_sheet_shows_each_shape_above_what_the_autoencoder_keeps(
    tmp_path: Path, tiny_pipeline: Path
) -> None:
    pictures = []
    for number, size in enumerate(((32, 32), (32, 64))):
        path = tmp_path / f"{number}.png"
        pixels = np.random.default_rng(number).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        pictures.append(Picture(path=path, caption="a dog"))
    parts = load_pipeline(tiny_pipeline, device="cpu")
    vae = parts.vae

    make_inputs_sheet(tmp_path / "sheet.png", pictures, sizes=((32, 32), (32, 64)), pipeline=parts)

    sheet = np.array(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (128, 64, 3)
    square, tall = (np.array(Image.open(picture.path)) for picture in pictures)
    assert np.array_equal(sheet[:32, :32], square)
    assert np.array_equal(sheet[:64, 32:], tall)
    assert (sheet[32:64, :32] == 255).all()
    assert (sheet[64:96, :32] != 255).any()
    kept = vae.decode(vae.encode(as_input(tall)).latent_dist.mean).sample[0].permute(1, 2, 0)
    seen = sheet[64:, 32:].astype(np.float32) / 127.5 - 1
    assert np.abs(seen - kept.clamp(-1, 1).numpy()).max() <= 0.5 / 127.5 + 1e-6


def as_input(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
