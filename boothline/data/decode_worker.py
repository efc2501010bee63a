"""The process that decodes: reads a request, answers a JSON line a picture, writes raw pixels.

It runs with little memory, little time and no secrets in its environment, so that a picture that
breaks a decoder breaks nothing else. Started by `boothline.data.decoder`.
"""

import contextlib
import errno
import json
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypedDict

from PIL import Image, ImageOps

from boothline.buckets import Size, nearest
from boothline.data.decoding import LAID_OVER_WHITE, TRY_AGAIN, decode, prepare
from boothline.errors import DataError

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

# Sharper ones swing past an edge, so that what is hidden would count a little.
MASK_METHOD = {
    Image.Resampling.LANCZOS: Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC: Image.Resampling.BILINEAR,
}
_OUTPUT_BYTES = 64 * 2**20


class Request(TypedDict):
    """What a worker is asked to do, as `boothline.data.decoder.make_request` explains it."""

    pictures: Sequence[tuple[int, str]]
    folder: str
    sizes_px: Sequence[Size]
    interpolation: str
    masks: bool
    thumbnail_px: int
    max_pixels: int
    seconds: float
    memory_bytes: int


class Outcome(TypedDict, total=False):
    """A line that a worker answers: that it is ready, or what became of a picture.

    It has `reason` where the picture is unusable, with `again` where a worker of its own may find
    otherwise, and `errno` where the machine failed.
    """

    ready: bool
    number: int
    reason: str
    advice: str
    again: bool
    errno: int
    format: str
    notes: list[str]
    remarks: list[str]
    masked: bool
    width_px: int
    height_px: int
    size_px: Size
    thumbnail_size_px: Size
    pixel_digest: str


TOO_MUCH_MEMORY: Outcome = {"reason": "needs too much memory to decode", "advice": TRY_AGAIN}


def main() -> None:
    """Decode every picture of the request in turn."""
    request: Request = json.load(sys.stdin)
    prepare()
    _confine(memory_bytes=request["memory_bytes"])
    _say({"ready": True})
    for number, path in request["pictures"]:
        _allow_more_time(request["seconds"])
        answer = _answer(Path(path), number=number, request=request)
        _say({"number": number, **answer})


def _say(answer: Outcome) -> None:
    """Write one line to the process that asked."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _answer(path: Path, *, number: int, request: Request) -> Outcome:
    """Decode one picture; its pixels go to files, the rest into the answer."""
    try:
        return _decoded(path, number=number, request=request)
    except DataError as error:
        out_of_memory = isinstance(error.__cause__, MemoryError)
        return {"reason": error.message, "advice": error.remedy, "again": out_of_memory}
    except MemoryError:
        return {**TOO_MUCH_MEMORY, "again": True}
    except OSError as error:
        return {"errno": error.errno or errno.EIO}


def _decoded(path: Path, *, number: int, request: Request) -> Outcome:
    """Return what became of one picture.

    Raises:
        DataError: it is unusable.
        OSError: it could not be read, or its pixels could not be written.
    """
    sides = [side for size in request["sizes_px"] for side in size]
    decoded = decode(path, max_pixels=request["max_pixels"], enough_px=2 * max(sides))
    size_px = nearest(decoded.image.size, request["sizes_px"])
    folder = Path(request["folder"])
    method = Image.Resampling[request["interpolation"].upper()]
    with ThreadPoolExecutor(1) as beside:
        digest = beside.submit(decoded.pixel_digest)
        cut = ImageOps.fit(decoded.image, size_px, method)
        small = _thumbnail(decoded.image, longest_px=request["thumbnail_px"])
    (folder / f"{number:05d}.cut").write_bytes(cut.tobytes())
    (folder / f"{number:05d}.thumbnail").write_bytes(small.tobytes())
    notes, remarks = list(decoded.notes), list(decoded.remarks)
    alpha = decoded.alpha if request["masks"] else None
    if alpha is not None:
        cut_alpha = ImageOps.fit(alpha, size_px, MASK_METHOD.get(method, method))
        (folder / f"{number:05d}.alpha").write_bytes(cut_alpha.tobytes())
        notes.remove(LAID_OVER_WHITE)
        remarks.append("is transparent in places, which are not learnt")
    return {
        "format": decoded.format,
        "notes": notes,
        "remarks": remarks,
        "masked": alpha is not None,
        "width_px": decoded.size[0],
        "height_px": decoded.size[1],
        "size_px": size_px,
        "thumbnail_size_px": small.size,
        "pixel_digest": digest.result(),
    }


def _thumbnail(image: Image.Image, *, longest_px: int) -> Image.Image:
    """Return a picture whole, its longer side at most so long."""
    scale = min(1.0, longest_px / max(image.size))
    width_px, height_px = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width_px, height_px), Image.Resampling.LANCZOS, reducing_gap=2.0)


def _confine(*, memory_bytes: int) -> None:
    """Limit what this process may use; a limit that the system does not know is left out."""
    if resource is None:
        return
    limits = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, _OUTPUT_BYTES),
        (resource.RLIMIT_NOFILE, 64),
    ]
    if sys.platform == "linux":
        limits.append((resource.RLIMIT_AS, memory_bytes))
    for name, value in limits:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(name, (value, value))


def _allow_more_time(seconds: float) -> None:
    """Let this process use so much processor time from now on; past it SIGPROF ends it."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


if __name__ == "__main__":
    main()
