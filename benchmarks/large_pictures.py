"""`make bench-pictures`: how long pictures of 50 million pixels take to decode, kind by kind."""

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from benchmarks.measuring import print_table, tell
from boothline.data.decoder import Picture, decode_all
from boothline.data.limits import Limits

SIZE = (8160, 6128)
KINDS: dict[str, dict[str, Any]] = {
    "photo.jpg": {"quality": 92},
    "photo.webp": {"quality": 85, "method": 0},
    "lossless.webp": {"lossless": True, "quality": 0, "method": 0},
    "transparent.webp": {"quality": 80, "method": 0},
    "photo.avif": {"quality": 75, "speed": 9},
    "photo.png": {"compress_level": 6},
    "photo.heic": {"quality": 70},
}
"""Files and how Pillow writes them; HEIC as one tile."""


class Time(NamedTuple):
    """Seconds that decoding took, of the clock and of the processors."""

    wall: float
    processor: float


def photo(seed: int = 1) -> Image.Image:
    """Return a picture with detail at four scales and a camera's noise."""
    random = np.random.default_rng(seed)
    width, height = SIZE
    total = np.full((height, width, 3), 128, np.float32)
    for side, strength in ((8, 60), (64, 40), (512, 25), (2048, 12)):
        grain = random.random((side * height // width, side, 3), np.float32) * 255
        layer = Image.fromarray(grain.astype(np.uint8)).resize(SIZE, Image.Resampling.BICUBIC)
        total += (np.asarray(layer, np.float32) - 128) * (strength / 128)
    total += random.normal(0, 1.2, (height, width, 1)).astype(np.float32)
    return Image.fromarray(np.clip(total, 0, 255).astype(np.uint8))


def write(folder: Path) -> Iterator[Path]:
    """Write the pictures that are not there yet; yield all."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    picture = None
    for name, options in KINDS.items():
        path = folder / name
        if not path.exists():
            picture = picture or photo()
            tell(f"writing {name}")
            _made(picture, name).save(path, **options)
        yield path


def _made(picture: Image.Image, name: str) -> Image.Image:
    if name == "lossless.webp":  # of few colours, as pictures are that people store so
        return picture.quantize(200).convert("RGB")
    if name == "transparent.webp":
        picture = picture.copy()
        picture.putalpha(Image.linear_gradient("L").resize(SIZE))
    return picture


def decode(paths: Sequence[Path], *, side_px: int) -> Time:
    """Decode pictures in one worker, its start included, for training at a size."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = decode_all(
            list(paths),
            sizes_px=[(side_px, side_px)],
            folder=Path(folder) / "decoded",
            limits=Limits(),
        )
        wall = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    refused = [one for one in found if not isinstance(one, Picture)]
    if refused:
        raise SystemExit(f"not decoded: {refused}")
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Time(wall, processor)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/large-pictures"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", type=int, default=512, help="size of the training, in pixels")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    paths = list(write(options.folder))
    alone: dict[Path, list[Time]] = {path: [] for path in paths}
    pairs: dict[Path, list[Time]] = {path: [] for path in paths}
    for _ in range(options.rounds):  # in turn, so that what else goes on meets all kinds alike
        for path in paths:
            alone[path].append(decode([path], side_px=options.side))
            pairs[path].append(decode([path, path], side_px=options.side))
    rows = []
    for path in paths:
        walls = [one.wall for one in alone[path]]
        further = median(two.wall for two in pairs[path]) - median(walls)
        rows.append(
            {
                "file": path.name,
                "MB": round(path.stat().st_size / 1e6),
                "s with the worker's start": round(median(walls), 2),
                "lowest": round(min(walls), 2),
                "highest": round(max(walls), 2),
                "s a further one": round(further, 2),
                "processor s": round(median(one.processor for one in alone[path]), 2),
            }
        )
    print_table(f"Decoding 50 million pixels, trained on at {options.side} px", rows)


if __name__ == "__main__":
    main()
