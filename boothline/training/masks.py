"""Weights of the loss from masks: as large as the latents, cut and mirrored like the pictures."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from boothline.errors import DataError
from boothline.training.pictures import Crops, Picture

_WHITE = 255


class MaskSource:
    """Weights of the latents of pictures, some of which have masks.

    A latent weighs as much as the mean of its pixels' mask. The autoencoder sees further than the
    pixels of one latent, so that what is masked still colours the latents at the border.

    Args:
        pictures: the pictures, numbered as their moments are.
        crops: random crops that stand for each picture; None: the whole picture.
    """

    def __init__(self, pictures: Sequence[Picture], *, crops: Crops | None = None) -> None:
        self._pictures = pictures
        # Sharper ones swing past an edge, so that what is hidden would count a little.
        self._crops = None if crops is None else replace(crops, interpolation="bilinear")
        self._kept: dict[tuple[int, bool, int, tuple[int, int]], torch.Tensor] = {}

    def weights(
        self, index: int, *, shape: tuple[int, int], flip: bool = False, crop: int = 0
    ) -> torch.Tensor:
        """Return weights_HW of a picture's latents: float32, (H, W), in [0, 1].

        Args:
            index: which picture.
            shape: (H, W) of the latents.
            flip: mirrored.
            crop: which of its crops, where there are crops.

        Raises:
            DataError: the mask cannot be decoded.
        """
        path = self._pictures[index].mask
        if path is None:
            return torch.ones(shape)
        name = (index, flip, crop, shape)
        if name not in self._kept:
            mask = _open(path)
            if self._crops is not None:
                mask = self._crops.cut(mask, picture=index, crop=crop)
            self._kept[name] = _pooled(mask, shape, flip=flip)
        return self._kept[name]


def masks_of(pictures: Sequence[Picture], *, crops: Crops | None = None) -> MaskSource | None:
    """Return the weights of pictures; None where none has a mask."""
    if all(picture.mask is None for picture in pictures):
        return None
    return MaskSource(pictures, crops=crops)


def _pooled(mask: Image.Image, shape: tuple[int, int], *, flip: bool) -> torch.Tensor:
    """Return the means of a mask over the pixels of each latent, (H, W)."""
    pixels = np.array(mask)
    if flip:
        pixels = pixels[:, ::-1]
    pixels_HW = torch.from_numpy(np.ascontiguousarray(pixels)).float() / _WHITE
    return torch.nn.functional.adaptive_avg_pool2d(pixels_HW[None], shape)[0]


def _open(path: Path) -> Image.Image:
    """Return a mask as 8-bit grey.

    Raises:
        DataError: it cannot be decoded.
    """
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return image.convert("L")
    except OSError as error:
        raise DataError(f"{path.parent.name}/{path.name} cannot be decoded: {error}.") from error
