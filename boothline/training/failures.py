"""How a rank that fails is noticed: it leaves its error in a file, or its heartbeat stops.

A rank that is stopped, not dead, is named, and in the end killed.

Each rank touches a file every second in a thread of its own, which neither a long step nor waiting
for the other ranks keeps from doing so. The process that started the ranks looks at the files of
its machine. It measures by its own clock for how long a file has not changed, so that neither a
machine that slept nor other clocks matter.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from boothline.errors import (
    MEMORY_SIGNS,
    BoothlineError,
    DiskFullError,
    TrainingError,
    is_disk_full,
)
from boothline.runs import Failure
from boothline.training.job import PROCESS_FILE

logger = logging.getLogger(__name__)


PEER_LOST = "PeerLostError"
_PEER_SIGNS = (
    "closed by peer",
    "reset by peer",
    "gloo",
    "nccl",
    "broken pipe",
    "connection refused",
)
# oneDNN says no more than this when the host has no memory for a convolution's own buffers; with
# "descriptor" behind it, it means that the operation is not supported.
_PRIMITIVE_SIGN = "could not create a primitive"
MEMORY_REMEDY = (
    "Raise training.accumulation (the global batch stays), set "
    "training.gradient_checkpointing=true, use training.precision=bf16 on a GPU, or use fewer "
    "ranks per machine."
)


RESUME_REMEDY = "`boothline resume` continues from the last training state."


def write_failure(folder: Path, error: BaseException, *, rank: int) -> None:
    """Record why a rank failed."""
    failure = Failure.of(_typed(error, rank=rank))
    if _is_peer_loss(error):
        failure = failure.model_copy(update={"type": PEER_LOST})
    (folder / f"error-{rank}.json").write_text(failure.model_dump_json(), encoding="utf-8")


def mark_done(folder: Path, *, rank: int) -> None:
    """Record that a rank ended well."""
    (folder / f"done-{rank}").touch()


def has_ended(folder: Path, *, rank: int) -> bool:
    """Return whether a rank has said how it ended."""
    return (folder / f"done-{rank}").exists() or (folder / f"error-{rank}.json").exists()


def failure_of(folder: Path, *, world_size: int, ranks: range | None = None) -> BoothlineError:
    """Return the error that stopped a training: the cause, not what followed from it.

    A typed error wins; then a rank that exited without reporting an error: it was killed.

    Args:
        folder: where the ranks left word.
        world_size: number of all ranks.
        ranks: the ranks of this machine; all by default.
    """
    recorded = {rank: _read(folder, rank) for rank in ranks or range(world_size)}
    for failure in recorded.values():
        if failure is not None and failure.type != PEER_LOST:
            return failure.error()
    silent = [
        rank
        for rank, failure in recorded.items()
        if failure is None and not (folder / f"done-{rank}").exists()
    ]
    if silent:
        return TrainingError(
            f"Rank {', '.join(map(str, silent))} of {world_size} exited without reporting an "
            "error: it was killed, perhaps for using too much memory.",
            remedy=f"{RESUME_REMEDY} {MEMORY_REMEDY}",
        )
    return TrainingError("The ranks lost each other.", remedy=RESUME_REMEDY)


def _read(folder: Path, rank: int) -> Failure | None:
    path = folder / f"error-{rank}.json"
    return Failure.model_validate_json(path.read_bytes()) if path.exists() else None


def _typed(error: BaseException, *, rank: int) -> BoothlineError:
    """Return an exception as the error a reader can act on."""
    if isinstance(error, BoothlineError):
        return error
    text = f"{type(error).__name__}: {error}"
    if is_out_of_memory(error):
        return TrainingError(f"Rank {rank} ran out of memory ({text}).", remedy=MEMORY_REMEDY)
    # safetensors writes files by itself, and its error carries no number.
    if is_disk_full(error) or "no space left" in text.lower():
        return DiskFullError(
            f"Rank {rank} found no space on the disk ({error}).", remedy="Free some space."
        )
    return TrainingError(f"Rank {rank} failed: {text}.", remedy=RESUME_REMEDY)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception says that memory ran out, on the host or on an accelerator."""
    text = f"{type(error).__name__}: {error}".lower()
    if isinstance(error, MemoryError) or text.endswith(_PRIMITIVE_SIGN):
        return True
    return any(sign in text for sign in MEMORY_SIGNS)


def _is_peer_loss(error: BaseException) -> bool:
    """Return whether an exception only says that another rank is gone."""
    if isinstance(error, BoothlineError) or not isinstance(error, RuntimeError):
        return False
    text = str(error).lower()
    return any(sign in text for sign in _PEER_SIGNS)


BEAT_SECONDS = 1.0
_BEAT_FILE = "beat-{rank}"


def start_beating(folder: Path, *, rank: int) -> None:
    """Touch the file of a rank until its process ends."""
    path = folder / _BEAT_FILE.format(rank=rank)
    path.touch()
    threading.Thread(target=_beat, args=(path,), name="heartbeat", daemon=True).start()


def _beat(path: Path) -> None:
    while True:
        time.sleep(BEAT_SECONDS)
        try:
            os.utime(path)
        except OSError as error:
            logger.warning("the heartbeat ends: %s", error)
            path.unlink(missing_ok=True)  # a rank without a file is not watched
            return


@dataclass
class _Pulse:
    """When a file was last seen to change."""

    changed_ns: int
    seen_at: float


class Watch:
    """Watches the heartbeats of the ranks of this machine.

    Args:
        folder: the job's folder.
        ranks: numbers of the ranks.
        warning_seconds: silence after which a rank is named, and again after as long.
        limit_seconds: silence after which a rank is killed.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        ranks: Iterable[int],
        warning_seconds: float,
        limit_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._ranks = tuple(ranks)
        self._warning_seconds = warning_seconds
        self._limit_seconds = limit_seconds
        self._clock = clock
        self._pulses: dict[int, _Pulse] = {}
        self._due_seconds = warning_seconds
        self._killed: tuple[int, ...] = ()
        for rank in self._ranks:
            (folder / _BEAT_FILE.format(rank=rank)).unlink(missing_ok=True)

    def look(self) -> str:
        """Look at all ranks; return what is to be said of those that do not answer, if anything.

        A rank that stays silent for longer than the limit is killed.
        """
        silence = {rank: self._silence_seconds(rank) for rank in self._ranks}
        longest = max(silence.values(), default=0.0)
        if longest < self._warning_seconds:
            self._due_seconds = self._warning_seconds
            return ""
        named = [rank for rank, seconds in silence.items() if seconds >= self._warning_seconds]
        if longest >= self._limit_seconds and not self._killed:
            self._kill(tuple(r for r in named if silence[r] >= self._limit_seconds))
        if longest < self._due_seconds:
            return ""
        self._due_seconds = longest + self._warning_seconds
        text = f"no step for {longest:.0f} s: {_answer(named)}"
        logger.warning("%s; after %.0f s it is ended", text, self._limit_seconds)
        return text

    def error(self) -> TrainingError | None:
        """Return the error of the ranks that were killed for their silence; None: none was."""
        if not self._killed:
            return None
        return TrainingError(
            f"For {self._limit_seconds:.0f} s {_answer(self._killed, past=True)}: stopped, or stuck"
            " below Python. The training was ended.",
            remedy=f"{RESUME_REMEDY} BOOTHLINE_RANK_LIMIT_SECONDS says how long to wait.",
        )

    def _silence_seconds(self, rank: int) -> float:
        """Return for how long a rank's file has not changed; 0 for one that has none or ended."""
        if has_ended(self._folder, rank=rank):
            return 0.0
        try:
            changed_ns = (self._folder / _BEAT_FILE.format(rank=rank)).stat().st_mtime_ns
        except FileNotFoundError:
            return 0.0
        now, pulse = self._clock(), self._pulses.get(rank)
        if pulse is None or pulse.changed_ns != changed_ns:
            self._pulses[rank] = _Pulse(changed_ns=changed_ns, seen_at=now)
            return 0.0
        return now - pulse.seen_at

    def _kill(self, ranks: tuple[int, ...]) -> None:
        """End ranks, stopped ones too; the agent ends the others."""
        self._killed = ranks
        for rank in ranks:
            process = int((self._folder / PROCESS_FILE.format(rank=rank)).read_text("utf-8"))
            logger.error("rank %d does not answer and is killed", rank)
            os.kill(process, signal.SIGKILL)


def _answer(ranks: Iterable[int], *, past: bool = False) -> str:
    """Return `rank 1 does not answer`, `ranks 0, 1 do not answer` or the same as a past."""
    numbers = [str(rank) for rank in ranks]
    verb = "did" if past else "does" if len(numbers) == 1 else "do"
    return f"rank{'s' if len(numbers) > 1 else ''} {', '.join(numbers)} {verb} not answer"
