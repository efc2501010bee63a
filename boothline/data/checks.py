"""Checks on decoded pictures: size, shape, sharpness and duplicates.

The near-duplicate check is our own difference hash: ImageHash would bring SciPy and PyWavelets into
the slim image for the same ten lines, and it is blind to colour, which has to count here.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from boothline.data.decoder import Picture
from boothline.data.report import DatasetWarning, QuarantinedImage

MIN_SHARPNESS: Final = 50.0
MAX_ASPECT_RATIO: Final = 2.5
HASH_SIDE: Final = 16
MAX_HASH_DISTANCE: Final = 0.10
"""Near duplicates differ in at most this share of the hash's bits ..."""
MAX_COLOUR_DISTANCE: Final = 0.06
"""... and by at most this in colour (mean absolute difference of a 16 x 16 picture, 0 to 1)."""

_LUMA: Final = np.array([0.299, 0.587, 0.114])


def too_small(source: str, picture: Picture) -> QuarantinedImage | None:
    """Return the quarantine of a picture that would be enlarged more than twofold, or None."""
    if _enlargement(picture) <= 2:
        return None
    return QuarantinedImage(
        source=source,
        check="size",
        reason=f"is {picture.width_px} x {picture.height_px} px, below half of"
        f" {_side(picture.size_px)} px",
        advice="Use a larger version of the picture, or lower subject.resolution_px or its bucket.",
    )


def size_warnings(source: str, picture: Picture) -> list[DatasetWarning]:
    """Return warnings about a picture that is enlarged, or loses much when cut to its shape.

    Args:
        source: name of its file.
        picture: the picture.
    """
    width_px, height_px, cut_px = picture.width_px, picture.height_px, picture.size_px
    found: list[DatasetWarning] = []
    if _enlargement(picture) > 1:
        found.append(
            DatasetWarning(
                source=source,
                check="size",
                message=f"is {width_px} x {height_px} px and is enlarged to {_side(cut_px)} px",
                advice="Use a larger version of the picture if there is one.",
            )
        )
    kept = (width_px * cut_px[1]) / (height_px * cut_px[0])
    if max(kept, 1 / kept) > MAX_ASPECT_RATIO:
        found.append(
            DatasetWarning(
                source=source,
                check="shape",
                message=f"is {width_px} x {height_px} px; cropping to {_shape(cut_px)} drops"
                f" {100 * (1 - min(kept, 1 / kept)):.0f} % of it",
                advice="Crop it yourself around the subject.",
            )
        )
    return found


def _enlargement(picture: Picture) -> float:
    """Return how many times larger a picture becomes before it is cut, above 0."""
    return max(picture.size_px[0] / picture.width_px, picture.size_px[1] / picture.height_px)


def _side(size_px: tuple[int, int]) -> str:
    """Return the side of a square, or both sides."""
    width_px, height_px = size_px
    return str(width_px) if width_px == height_px else f"{width_px} x {height_px}"


def _shape(size_px: tuple[int, int]) -> str:
    """Return a size in words."""
    width_px, height_px = size_px
    return "a square" if width_px == height_px else f"{width_px} x {height_px} px"


def sharpness_of(image: Image.Image) -> float:
    """Return the variance of the Laplacian of the luma, at least 0; blurred pictures have little.

    The measure is LAPV of Pertuz et al., "Analysis of focus measure operators for
    shape-from-focus", Pattern Recognition 2013.

    Args:
        image: RGB picture at training size.
    """
    luma = np.asarray(image, dtype=np.float64) @ _LUMA
    laplacian = (
        luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * luma[1:-1, 1:-1]
    )
    return float(laplacian.var())


def sharpness_warning(source: str, sharpness: float) -> DatasetWarning | None:
    """Return a warning about a blurred picture, or None."""
    if sharpness >= MIN_SHARPNESS:
        return None
    return DatasetWarning(
        source=source,
        check="sharpness",
        message=f"is blurred or empty: sharpness {sharpness:.1f}, expected {MIN_SHARPNESS:g}",
        advice="Use a sharper picture; blur is learnt like everything else.",
    )


def near_duplicates(thumbnails: Sequence[Image.Image]) -> list[tuple[int, int, float]]:
    """Return pairs of pictures that look the same: (first, second, share of equal hash bits).

    Args:
        thumbnails: RGB pictures of any size.
    """
    if len(thumbnails) < 2:
        return []
    hashes = np.stack([_difference_hash(image) for image in thumbnails])
    colours = np.stack([_colours(image) for image in thumbnails])
    signs = hashes.astype(np.float32) * 2 - 1
    distance = (1 - signs @ signs.T / signs.shape[1]) / 2
    pairs: list[tuple[int, int, float]] = []
    for first, second in zip(*np.nonzero(np.triu(distance <= MAX_HASH_DISTANCE, k=1)), strict=True):
        if np.abs(colours[first] - colours[second]).mean() <= MAX_COLOUR_DISTANCE:
            pairs.append((int(first), int(second), 1 - float(distance[first, second])))
    return pairs


def _difference_hash(image: Image.Image) -> npt.NDArray[np.bool_]:
    """Return whether each cell is brighter than its neighbours to the left and above.

    2 x 16 x 16 bits. Steps below two grey levels count as none, so that plain areas do not decide
    by their noise.
    """
    side = HASH_SIDE + 1
    cells = np.asarray(
        image.convert("L").resize((side, side), Image.Resampling.BOX), dtype=np.float32
    )
    across = cells[:-1, 1:] - cells[:-1, :-1] > 2
    down = cells[1:, :-1] - cells[:-1, :-1] > 2
    return np.concatenate([across.ravel(), down.ravel()])


def _colours(image: Image.Image) -> npt.NDArray[np.float32]:
    """Return the picture as 16 x 16 RGB cells in [0, 1]."""
    small = image.resize((HASH_SIDE, HASH_SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / np.float32(255)
