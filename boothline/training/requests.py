"""What other processes ask of a rank by signal: stop (SIGTERM, SIGINT) or save now (SIGUSR1)."""

import ctypes
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

logger = logging.getLogger(__name__)

STOP_DEADLINE_SECONDS = 20.0
_PR_SET_PDEATHSIG = 1


class Requests:
    """Remembers signals until the loop reaches a place where it can answer them.

    Args:
        save_every_seconds: a training state is asked for when the last one is so old; 0: never.
        clock: seconds.

    Attributes:
        stop: a stop was asked for.
        save: a training state was asked for.
    """

    def __init__(
        self, *, save_every_seconds: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.stop = False
        self.save = False
        self._save_every_seconds = save_every_seconds
        self._clock = clock
        self._saved_at = clock()
        self._answered = threading.Event()

    def install(self) -> None:
        """Listen to the signals; the death of the parent process counts as SIGTERM."""
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        signal.signal(signal.SIGUSR1, self._on_save)
        die_with_parent(signal.SIGTERM)

    def answer(self) -> None:
        """Tell that the loop has seen the stop, so that the process is left time to save."""
        self._answered.set()

    def take_save(self) -> bool:
        """Return, once, whether a training state was asked for or is due."""
        every = self._save_every_seconds
        asked = self.save or bool(every and self._clock() - self._saved_at >= every)
        if asked:
            self.save = False
            self.state_saved()
        return asked

    def state_saved(self) -> None:
        """Count the age of the last training state from now."""
        self._saved_at = self._clock()

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        if not self.stop:
            self.stop = True
            threading.Thread(target=self._give_up, args=(number,), daemon=True).start()

    def _on_save(self, number: int, frame: FrameType | None) -> None:
        self.save = True

    def _give_up(self, number: int) -> None:
        """End a process that hangs, e.g. in a collective whose peer is dead."""
        if not self._answered.wait(STOP_DEADLINE_SECONDS):
            logger.error("no step ended within %.0f s of the stop", STOP_DEADLINE_SECONDS)
            os._exit(128 + number)


def die_with_parent(number: signal.Signals) -> None:
    """Ask the kernel to signal this process when its parent ends (Linux; elsewhere nothing)."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    except (OSError, AttributeError):
        logger.debug("no parent-death signal on this system")
