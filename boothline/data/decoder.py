"""Has pictures decoded by a confined child process; one that ends the child costs only itself."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

import boothline
from boothline.buckets import Size
from boothline.data.limits import Limits
from boothline.errors import DataError

logger = logging.getLogger(__name__)

THUMBNAIL_PX = 192


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A decoded picture, brought to the training size.

    Attributes:
        cut_path: raw RGB bytes, centre-cropped and resized to the training size.
        size_px: that size, (width, height).
        thumbnail: RGB, whole, at most THUMBNAIL_PX on its longer side.
        width_px, height_px: size before that, upright.
        format: format of the file.
        notes: what the decoder had to decide.
        pixel_digest: sha256 of size and pixels before cropping.
    """

    cut_path: Path
    size_px: Size
    thumbnail: Image.Image
    width_px: int
    height_px: int
    format: str
    notes: tuple[str, ...]
    pixel_digest: str

    def cut(self) -> Image.Image:
        """Return the picture at training size, RGB."""
        return Image.frombytes("RGB", self.size_px, self.cut_path.read_bytes())


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """Why a file gave no picture, and what its owner can do."""

    reason: str
    advice: str


def decode_all(
    paths: Sequence[Path],
    *,
    sizes_px: Sequence[Size],
    folder: Path,
    limits: Limits,
    interpolation: str = "lanczos",
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Picture | Unreadable]:
    """Decode picture files in a child process.

    Args:
        paths: the files; their names play no part.
        sizes_px: (width, height) of the pictures to make; each gets the one nearest in shape.
        folder: scratch folder; created.
        limits: caps on pixels, time and memory of one picture.
        interpolation: how they are scaled, by Pillow's name in small letters.
        on_progress: called with (decoded, total) after each picture.

    Returns:
        One result a path, in order.

    Raises:
        DataError: the worker cannot be started at all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[int, Picture | Unreadable] = {}
    while len(results) < len(paths):
        remaining = [(n, str(path.resolve())) for n, path in enumerate(paths) if n not in results]
        request = make_request(
            remaining, sizes_px=sizes_px, folder=folder, limits=limits, interpolation=interpolation
        )
        return_code = _run_worker(
            request, results=results, folder=folder, total=len(paths), on_progress=on_progress
        )
        unanswered = next((n for n, _ in remaining if n not in results), None)
        if unanswered is not None:
            results[unanswered] = _blame(return_code, limits=limits)
    return [results[number] for number in range(len(paths))]


def make_request(
    pictures: Sequence[tuple[int, str]],
    *,
    sizes_px: Sequence[Size],
    folder: Path,
    limits: Limits,
    interpolation: str,
) -> dict[str, Any]:
    """Return what a worker is asked: pictures by number and path, the rest as for `decode_all`."""
    return {
        "pictures": pictures,
        "folder": str(folder.resolve()),
        "sizes_px": sizes_px,
        "interpolation": interpolation,
        "thumbnail_px": THUMBNAIL_PX,
        "max_pixels": limits.max_pixels,
        "seconds": limits.decode_seconds,
        "memory_bytes": limits.decode_memory_bytes,
    }


def _run_worker(
    request: dict[str, Any],
    *,
    results: dict[int, Picture | Unreadable],
    folder: Path,
    total: int,
    on_progress: Callable[[int, int], None] | None,
) -> int:
    """Run one worker until it ends; what it answered is added to the results."""
    environment = {
        "PYTHONPATH": str(Path(boothline.__file__).resolve().parent.parent),
        "PATH": os.environ.get("PATH", os.defpath),
    }
    request_path = folder / "request.json"
    request_path.write_text(json.dumps(request), encoding="utf-8")
    with (
        request_path.open("rb") as stdin,
        (folder / "stderr.txt").open("wb") as stderr,
        subprocess.Popen(
            [sys.executable, "-P", "-m", "boothline.data.decode_worker"],
            stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, env=environment, cwd=folder,
        ) as worker,
    ):  # fmt: skip
        for line in worker.stdout or ():
            if not line.endswith(b"\n"):
                break
            answer = json.loads(line)
            results[int(answer["number"])] = _result(answer, folder=folder)
            if on_progress:
                on_progress(len(results), total)
    if worker.returncode == 1 and not results:
        detail = (folder / "stderr.txt").read_text(encoding="utf-8", errors="replace").splitlines()
        raise DataError(
            f"The picture decoder does not start: {detail[-1] if detail else 'no message'}",
            remedy="Check the installation with `boothline doctor`.",
        )
    return worker.returncode


def _result(answer: dict[str, Any], *, folder: Path) -> Picture | Unreadable:
    """Read what the worker wrote of one picture: plain pixels, nothing to decode."""
    if "reason" in answer:
        return Unreadable(reason=answer["reason"], advice=answer["advice"])
    stem = folder / f"{int(answer['number']):05d}"
    thumbnail = stem.with_suffix(".thumbnail")
    width_px, height_px = answer["thumbnail_size_px"]
    return Picture(
        cut_path=stem.with_suffix(".cut"),
        size_px=(answer["size_px"][0], answer["size_px"][1]),
        thumbnail=Image.frombytes("RGB", (width_px, height_px), thumbnail.read_bytes()),
        width_px=answer["width_px"],
        height_px=answer["height_px"],
        format=answer["format"],
        notes=tuple(answer["notes"]),
        pixel_digest=answer["pixel_digest"],
    )


def _blame(return_code: int, *, limits: Limits) -> Unreadable:
    """Return the reason for the picture at which a worker ended."""
    logger.warning("the picture decoder ended with %d", return_code)
    if return_code == -signal.SIGPROF:
        reason = f"takes more than {limits.decode_seconds:g} seconds to decode"
    elif return_code < 0:
        reason = f"ends the decoder with signal {-return_code}"
    else:
        reason = "makes the decoder fail"
    return Unreadable(
        reason=reason, advice="Open it in an image editor and save it again, or leave it out."
    )
