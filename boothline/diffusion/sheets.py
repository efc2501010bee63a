"""Puts pictures side by side on one sheet."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from boothline.tracking import StepTracker

_BACKGROUND = (255, 255, 255)


def contact_sheet(
    images: Sequence[Image.Image], *, num_columns: int | None = None, gap_px: int = 4
) -> Image.Image:
    """Return one RGB picture with all pictures in rows, left to right and top to bottom.

    Args:
        images: at least one; cells have the size of the largest.
        num_columns: pictures per row; about square when unset.
        gap_px: white space between and around pictures, in pixels.

    Raises:
        ValueError: there are no pictures.
    """
    if not images:
        raise ValueError("a contact sheet needs at least one picture")
    columns = num_columns or math.ceil(math.sqrt(len(images)))
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    width_px = max(image.width for image in images) + gap_px
    height_px = max(image.height for image in images) + gap_px
    size = (columns * width_px + gap_px, rows * height_px + gap_px)
    sheet = Image.new("RGB", size, _BACKGROUND)
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        sheet.paste(image, (gap_px + column * width_px, gap_px + row * height_px))
    return sheet


def track_sheet(
    tracker: "StepTracker",
    pictures: Sequence[bytes],
    *,
    path: Path,
    folder: str,
    num_columns: int | None = None,
) -> None:
    """Save pictures as one sheet and hand it to the tracker; nothing happens without pictures.

    Args:
        tracker: of the step.
        pictures: what to show, as PNG.
        path: file to write.
        folder: where the tracker puts it.
        num_columns: pictures per row; about square when unset.
    """
    if pictures:
        images = [Image.open(io.BytesIO(picture), formats=("PNG",)) for picture in pictures]
        contact_sheet(images, num_columns=num_columns).save(path)
        tracker.artifact(path, folder=folder)
