"""Pictures for the tests of boothline.data and of the step that validates them."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from boothline.settings import Settings

MakePicture = Callable[..., Image.Image]


def _make_picture(seed: int = 0, width: int = 96, height: int = 96) -> Image.Image:
    """A picture of coloured blocks: sharp, and another for each seed."""
    blocks = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST)


@pytest.fixture
def make_picture() -> MakePicture:
    return _make_picture


@pytest.fixture
def no_services() -> Settings:
    return Settings(run_dir=None)
