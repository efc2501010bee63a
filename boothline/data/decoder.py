"""Has pictures decoded by a confined child process; one that ends the child costs only itself.

A picture is judged by what it does alone: where a worker ends, the picture that it had is decoded
again in a worker of its own. What ends that one too and cannot come from a picture, such as a kill
from outside or a full disk, is an error of this machine and no verdict on the picture.
"""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

import boothline
from boothline.buckets import Size
from boothline.data.decode_worker import Outcome, Request
from boothline.data.limits import Limits
from boothline.errors import DiskFullError, MachineError, is_disk_full

logger = logging.getLogger(__name__)

THUMBNAIL_PX = 192
_CRASHES = tuple(
    -signal.Signals[name].value
    for name in ("SIGSEGV", "SIGABRT", "SIGILL", "SIGFPE")
    if hasattr(signal, name)
)
"""What a decoder does to itself on a picture that it cannot bear."""

ProgressFunction = Callable[[int, int], None]


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
        remarks: what it did that is nothing to worry about.
        pixel_digest: sha256 of size and pixels before cropping.
        alpha_path: raw grey bytes of its alpha channel, cut likewise; None: it is opaque.
    """

    cut_path: Path
    size_px: Size
    thumbnail: Image.Image
    width_px: int
    height_px: int
    format: str
    notes: tuple[str, ...]
    remarks: tuple[str, ...]
    pixel_digest: str
    alpha_path: Path | None = None

    def cut(self) -> Image.Image:
        """Return the picture at training size, RGB."""
        return Image.frombytes("RGB", self.size_px, self.cut_path.read_bytes())

    def alpha(self) -> Image.Image | None:
        """Return its alpha channel at training size, 8-bit grey; None: it is opaque."""
        if self.alpha_path is None:
            return None
        return Image.frombytes("L", self.size_px, self.alpha_path.read_bytes())


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """Why a file gave no picture, and what its owner can do."""

    reason: str
    advice: str


Answer = Picture | Unreadable


def decode_all(
    paths: Sequence[Path],
    *,
    sizes_px: Sequence[Size],
    folder: Path,
    limits: Limits,
    interpolation: str = "lanczos",
    masks: bool = False,
    on_progress: ProgressFunction | None = None,
) -> list[Answer]:
    """Decode picture files in a child process.

    Args:
        paths: the files; their names play no part.
        sizes_px: (width, height) of the pictures to make; each gets the one nearest in shape.
        folder: scratch folder; created.
        limits: caps on pixels, time and memory of one picture.
        interpolation: how they are scaled, by Pillow's name in small letters.
        masks: keep the alpha channel of transparent pictures.
        on_progress: called with (decoded, total) after each picture.

    Returns:
        One result a path, in order.

    Raises:
        MachineError: the worker does not start, or was ended from outside twice.
        DiskFullError: no space is left in the scratch folder.
    """
    with _machine_faults_named():
        folder.mkdir(parents=True, exist_ok=True)
        results: dict[int, Answer] = {}
        job = _Job(
            paths=paths,
            folder=folder,
            limits=limits,
            sizes_px=sizes_px,
            interpolation=interpolation,
            masks=masks,
        )
        while len(results) < len(paths):
            remaining = [number for number in range(len(paths)) if number not in results]
            ended = job.run(remaining, results=results, on_progress=on_progress)
            if (suspect := next((n for n in remaining if n not in results), None)) is not None:
                logger.warning("a picture is decoded again, alone: %s", ended.in_words)
                job.decode_alone(suspect, results=results, on_progress=on_progress)
    return [results[number] for number in range(len(paths))]


def make_request(
    pictures: Sequence[tuple[int, str]],
    *,
    sizes_px: Sequence[Size],
    folder: Path,
    limits: Limits,
    interpolation: str,
    masks: bool = False,
) -> Request:
    """Return what a worker is asked: pictures by number and path, the rest as for `decode_all`."""
    return {
        "pictures": pictures,
        "folder": str(folder.resolve()),
        "sizes_px": sizes_px,
        "interpolation": interpolation,
        "masks": masks,
        "thumbnail_px": THUMBNAIL_PX,
        "max_pixels": limits.max_pixels,
        "seconds": limits.decode_seconds,
        "memory_bytes": limits.decode_memory_bytes,
    }


@dataclass(frozen=True, kw_only=True)
class _End:
    """How a worker ended.

    Attributes:
        return_code: the process's; negative: the signal that ended it.
        was_ready: whether it had begun to decode.
        errno: the number of the system's error that it met; 0: none.
        last_words: last line that it wrote to standard error.
    """

    return_code: int
    was_ready: bool
    errno: int
    last_words: str

    @property
    def in_words(self) -> str:
        """What happened, as the rest of a sentence after `the picture decoder`."""
        if self.errno:
            return f"reported: {os.strerror(self.errno)}"
        if self.return_code < 0:
            return f"was ended by signal {-self.return_code}"
        return f"exited with {self.return_code}: {self.last_words or 'no message'}"


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What `decode_all` was asked; its arguments are those."""

    paths: Sequence[Path]
    folder: Path
    limits: Limits
    sizes_px: Sequence[Size]
    interpolation: str
    masks: bool

    def decode_alone(
        self, number: int, *, results: dict[int, Answer], on_progress: ProgressFunction | None
    ) -> None:
        """Decode a picture again at which a worker ended, in a worker of its own.

        Raises:
            MachineError: that one ended too, for a reason that lies outside the picture.
            DiskFullError: no space was left both times.
        """
        ended = self.run([number], results=results, on_progress=on_progress)
        if number in results:
            return
        results[number] = _verdict(ended, limits=self.limits)
        if on_progress:
            on_progress(len(results), len(self.paths))

    def run(
        self,
        numbers: Sequence[int],
        *,
        results: dict[int, Answer],
        on_progress: ProgressFunction | None,
    ) -> _End:
        """Run one worker until it ends; what it answered is added to the results."""
        request = make_request(
            [(number, str(self.paths[number].resolve())) for number in numbers],
            sizes_px=self.sizes_px,
            folder=self.folder,
            limits=self.limits,
            interpolation=self.interpolation,
            masks=self.masks,
        )
        was_ready, fault = False, 0
        with _started(request, self.folder) as worker:
            for line in worker.stdout or ():
                if not line.endswith(b"\n"):
                    break
                answer: Outcome = json.loads(line)
                if "ready" in answer:
                    was_ready = True
                    continue
                number = int(answer["number"])
                fault = int(answer.get("errno", 0))
                # Memory that earlier pictures have left in pieces is not the picture's fault.
                if fault or (answer.get("again") and number != numbers[0]):
                    worker.kill()
                    break
                results[number] = _result(answer, folder=self.folder)
                if on_progress:
                    on_progress(len(results), len(self.paths))
        stderr = (self.folder / "stderr.txt").read_text(encoding="utf-8", errors="replace")
        return _End(
            return_code=worker.returncode,
            was_ready=was_ready,
            errno=fault,
            last_words=(stderr.splitlines() or [""])[-1],
        )


@contextmanager
def _started(request: Request, folder: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """Start a worker on a request; it is waited for at the end."""
    environment = {
        "PYTHONPATH": str(Path(boothline.__file__).resolve().parent.parent),
        "PATH": os.environ.get("PATH", os.defpath),
        # Each arena of each thread would count as 64 MiB of address space.
        "MALLOC_ARENA_MAX": "1",
        # Large pictures take fewer page faults where the kernel gives large pages to who asks.
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
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
        try:
            yield worker
        finally:
            if sys.exc_info()[0] is not None:
                worker.kill()


def _result(answer: Outcome, *, folder: Path) -> Answer:
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
        remarks=tuple(answer["remarks"]),
        pixel_digest=answer["pixel_digest"],
        alpha_path=stem.with_suffix(".alpha") if answer["masked"] else None,
    )


def _verdict(ended: _End, *, limits: Limits) -> Unreadable:
    """Return the verdict on a picture that has ended two workers, the second one alone.

    Raises:
        MachineError: what ended the second one lies outside the picture.
        DiskFullError: no space is left for its pixels.
    """
    logger.warning("the picture decoder %s", ended.in_words)
    advice = "Open it in an image editor and save it again, or leave it out."
    if ended.errno:
        raise OSError(ended.errno, os.strerror(ended.errno))
    if not ended.was_ready:
        raise MachineError(
            f"The picture decoder does not start: it {ended.in_words}.",
            remedy="Check the installation with `boothline doctor`.",
        )
    if ended.return_code == -signal.SIGPROF:
        reason = f"takes more than {limits.decode_seconds:g} seconds to decode"
        return Unreadable(reason=reason, advice=advice)
    if ended.return_code in _CRASHES:
        reason = f"ends the decoder with signal {-ended.return_code}"
        return Unreadable(reason=reason, advice=advice)
    if ended.return_code < 0:
        raise MachineError(
            f"The picture decoder {ended.in_words} twice, the second time with one picture alone.",
            remedy="Something outside ended it, as a system short of memory does: free memory or "
            f"raise the step's limit (it takes up to {limits.decode_memory_bytes // 2**20} MiB), "
            "and run again.",
        )
    return Unreadable(reason="makes the decoder fail", advice=advice)


@contextmanager
def _machine_faults_named() -> Iterator[None]:
    """Turn errors of the system, which say nothing about a picture, into typed ones."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise DiskFullError(
                f"No space is left to decode the pictures: {error.strerror}.",
                remedy="Free space, or point TMPDIR at a larger disk.",
            ) from error
        raise MachineError(
            f"The pictures could not be decoded on this machine: {error}.",
            remedy="No picture is at fault. Check memory, the disk of TMPDIR, and run again.",
        ) from error
