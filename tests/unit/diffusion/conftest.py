"""Fixtures of the diffusion tests."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from boothline.diffusion.loading import DiffusionParts


@pytest.fixture(scope="session")
def tiny_parts(tiny_pipeline: Path) -> "DiffusionParts":
    """The random tiny model, loaded once; read only."""
    import torch

    from boothline.diffusion.loading import load_pipeline

    torch.set_num_threads(1)
    return load_pipeline(tiny_pipeline, device="cpu")
