"""Draws pictures with a pipeline: picture i depends on its prompt and on (seed, i) alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionPipeline
from PIL import Image

from models.build.autoencoder import to_tensor


def load_pipeline(folder: Path, *, device: torch.device) -> StableDiffusionPipeline:
    """Return the exported pipeline on a device, quiet, with the ancestral Euler sampler.

    The samplers without noise of their own keep the grain of some seeds to the end.
    """
    pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True).to(device)
    pipeline.scheduler = EulerAncestralDiscreteScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generate(
    pipeline: StableDiffusionPipeline,
    prompts: Sequence[str],
    *,
    seed: int,
    num_steps: int,
    guidance_scale: float,
    batch_size: int = 32,
) -> list[Image.Image]:
    """Return one picture a prompt.

    Args:
        pipeline: what draws.
        prompts: what to draw.
        seed: with a picture's index, the source of its noise.
        num_steps: denoising steps.
        guidance_scale: of classifier-free guidance.
        batch_size: pictures drawn together.
    """
    pictures: list[Image.Image] = []
    for first in range(0, len(prompts), batch_size):
        part = list(prompts[first : first + batch_size])
        generators = [
            torch.Generator().manual_seed(seed * 1_000_003 + first + offset)
            for offset in range(len(part))
        ]
        pictures += pipeline(
            part,
            num_inference_steps=num_steps,
            guidance_scale=guidance_scale,
            generator=generators,
        ).images
    return pictures


def pixels_of(pictures: Sequence[Image.Image]) -> torch.Tensor:
    """Return pictures of one size as pixels_BCHW: float32, in [-1, 1]."""
    return to_tensor(np.stack([np.asarray(picture) for picture in pictures]))


def contact_sheet(
    pictures: Sequence[Image.Image], *, columns: int, cell_px: int = 96
) -> Image.Image:
    """Return pictures side by side, row by row, each enlarged to `cell_px`."""
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * cell_px, rows * cell_px), "white")
    for number, picture in enumerate(pictures):
        place = (number % columns * cell_px, number // columns * cell_px)
        sheet.paste(picture.resize((cell_px, cell_px), Image.Resampling.LANCZOS), place)
    return sheet
