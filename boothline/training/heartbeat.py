"""The heartbeat of the ranks: one that is stopped, not dead, is named, and in the end killed.

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

from boothline.errors import TrainingError
from boothline.training.failures import RESUME_REMEDY, has_ended
from boothline.training.job import PROCESS_FILE

logger = logging.getLogger(__name__)

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

        A rank that does not answer for longer than the limit is killed.
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
