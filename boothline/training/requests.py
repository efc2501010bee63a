"""What other processes ask of a rank by signal: stop (SIGTERM, SIGINT) or save now (SIGUSR1)."""

import logging
import os
import signal
import threading
from types import FrameType

from boothline.processes import PARENT_DEATH_SIGNAL, control

logger = logging.getLogger(__name__)

STOP_DEADLINE_SECONDS = 20.0


class Requests:
    """Remembers signals until the loop reaches a place where it can answer them.

    Attributes:
        stop: a stop was asked for.
        save: a training state was asked for.
    """

    def __init__(self) -> None:
        self.stop = False
        self.save = False
        self._answered = threading.Event()

    def install(self) -> None:
        """Listen to the signals; the death of the parent process counts as SIGTERM."""
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        signal.signal(signal.SIGUSR1, self._on_save)
        control(PARENT_DEATH_SIGNAL, signal.SIGTERM)

    def answer(self) -> None:
        """Tell that the loop has seen the stop, so that the process is left time to save."""
        self._answered.set()

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
