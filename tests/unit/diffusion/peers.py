"""Plain diffusers pipelines around our parts, and a count of what goes through a network."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from boothline.config.sampling import SamplingConfig
from boothline.diffusion.loading import DiffusionParts
from boothline.diffusion.samplers import make_scheduler


def plain_pipeline(cls: Any, parts: DiffusionParts, sampling: SamplingConfig) -> Any:
    """Return a diffusers pipeline of a class with our networks and our scheduler."""
    pipeline = cls(
        unet=parts.unet,
        vae=parts.vae,
        text_encoder=parts.text_encoder,
        tokenizer=parts.tokenizer,
        scheduler=make_scheduler(parts.scheduler, sampling),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@contextmanager
def counted(module: torch.nn.Module) -> Iterator[list[int]]:
    """Collect the number of rows of each forward."""
    rows: list[int] = []
    handle = module.register_forward_pre_hook(lambda _module, args: rows.append(len(args[0])))
    try:
        yield rows
    finally:
        handle.remove()
