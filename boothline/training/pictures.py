"""Reads training pictures with their captions, and says which picture each position takes."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from boothline.buckets import Size
from boothline.config.section import SUBJECT_FIELD
from boothline.config.training import CAPTION_FIELD
from boothline.diffusion import counters
from boothline.errors import DataError
from boothline.training.job import ensure_some_left

CAPTIONS_FILE = "captions.jsonl"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A training picture on disk, its caption and its mask; None: all of it is learnt."""

    path: Path
    caption: str
    mask: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Crops:
    """Random square crops of pictures; crop c of picture i depends on (seed, i, c) alone.

    Attributes:
        count: crops of each picture.
        smallest: smallest side, as a fraction of the picture's side, in (0, 1].
        interpolation: how they are scaled: `bilinear`, `bicubic` or `lanczos`.
        seed: seed of the training.
    """

    count: int
    smallest: float
    interpolation: str
    seed: int

    def cut(self, image: Image.Image, *, picture: int, crop: int) -> Image.Image:
        """Return a crop of a picture, of its shape, scaled back to its size."""
        draw = counters.uniform((3,), seed=self.seed, stream="crop", index=(picture, crop)).tolist()
        part = self.smallest + (1 - self.smallest) * draw[0]
        sides = [part * side for side in image.size]
        left, top = (
            value * (whole - side)
            for value, whole, side in zip(draw[1:], image.size, sides, strict=True)
        )
        # Rounding must not lead outside.
        right = min(left + sides[0], image.width)
        bottom = min(top + sides[1], image.height)
        resample = Image.Resampling[self.interpolation.upper()]
        return image.resize(image.size, resample, box=(left, top, right, bottom))


def captions_of(picture: Picture, templates: Sequence[str], *, phrase: str) -> tuple[str, ...]:
    """Return the captions that a picture may have: its own, or the templates filled.

    Args:
        picture: the picture.
        templates: texts with `{subject}` or `{caption}`; none: its own caption.
        phrase: identifier and class noun that stand for `{subject}`.
    """
    return tuple(
        template.replace(SUBJECT_FIELD, phrase).replace(CAPTION_FIELD, picture.caption)
        for template in templates or (CAPTION_FIELD,)
    )


def read_pictures(folders: Sequence[Path]) -> list[Picture]:
    """Return the pictures that the captions.jsonl of the folders list, sorted by file name.

    Raises:
        DataError: a folder lacks its captions, or no picture is listed.
    """
    pictures: list[Picture] = []
    for folder in folders:
        captions = folder / CAPTIONS_FILE
        if not captions.is_file():
            raise DataError(
                f"{folder} has no {CAPTIONS_FILE}.", remedy="Run the step that makes it again."
            )
        for line in captions.read_text(encoding="utf-8").split("\n"):
            if line:
                row = json.loads(line)
                mask = folder / row["mask"] if "mask" in row else None
                path = folder / row["image"]
                pictures.append(Picture(path=path, caption=row["caption"], mask=mask))
    if not pictures:
        raise DataError("No training picture is listed.", remedy="Add pictures of the subject.")
    return sorted(pictures, key=lambda picture: picture.path.name)


def split_off(pictures: Sequence[Picture], count: int) -> tuple[list[Picture], list[Picture]]:
    """Return the pictures to train on and the last `count`, which are held out.

    Raises:
        ConfigError: no picture would be left to train on.
    """
    ensure_some_left(hold_out=count, num_pictures=len(pictures))
    kept = len(pictures) - count
    return list(pictures[:kept]), list(pictures[kept:])


def load_pixels(
    picture: Picture,
    *,
    size_px: Size,
    fit: bool = False,
    flip: bool = False,
    cut: Callable[[Image.Image], Image.Image] | None = None,
) -> torch.Tensor:
    """Return pixels_CHW: float32, (3, height, width), in [-1, 1].

    Args:
        picture: what to load; RGB of exactly the size.
        size_px: (width, height).
        fit: cut a picture of another shape to its middle and scale it.
        flip: mirror it left to right.
        cut: takes a part of it, of the same size.

    Raises:
        DataError: the picture has another size or cannot be decoded.
    """
    image = open_picture(picture)
    if fit and image.size != size_px:
        image = ImageOps.fit(image, size_px, Image.Resampling.LANCZOS)
    if image.size != size_px:
        raise DataError(
            f"{picture.path.name} is {image.width} x {image.height} pixels, "
            f"training expects {size_px[0]} x {size_px[1]}.",
            remedy="Set subject.resolution_px to the base model's picture size.",
        )
    pixels = np.array(image if cut is None else cut(image))
    if flip:
        pixels = pixels[:, ::-1]
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).float() / 127.5 - 1


def open_picture(picture: Picture) -> Image.Image:
    """Return a picture as RGB.

    Raises:
        DataError: it cannot be decoded.
    """
    try:
        with Image.open(picture.path, formats=("PNG",)) as image:
            return image.convert("RGB")
    except OSError as error:
        raise DataError(f"{picture.path.name} cannot be decoded: {error}.") from error


def picture_at(position: int, *, count: int, seed: int, stream: str) -> int:
    """Return which of `count` pictures stands at a position of the endless training order.

    Each stretch of `count` positions (an epoch) holds every picture once, in an order of its own.

    Args:
        position: samples taken before, at least 0.
        count: number of pictures.
        seed: seed of the training.
        stream: name of the order, e.g. `instance`.
    """
    return epoch_order(count, seed, f"{stream}/order", position // count)[position % count]


@lru_cache(maxsize=32)
def epoch_order(count: int, seed: int, stream: str, epoch: int) -> list[int]:
    """Return the numbers below `count` in the shuffled order of one epoch."""
    return counters.permutation(count, seed=seed, stream=stream, index=epoch)
