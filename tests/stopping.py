"""A training that is asked to stop in its middle, and one whose ranks are killed there."""

import signal
import time
from collections.abc import Mapping
from typing import Any

import psutil

from boothline.training.job import TrainingJob
from boothline.training.ranks import Requests


class StopAfter(Requests):
    """Asks to stop when its rank has reported a number of steps."""

    def __init__(self, reports: int) -> None:
        self._left = reports
        super().__init__()

    @property
    def stop(self) -> bool:
        self._left -= 1
        return self._left < 0

    @stop.setter
    def stop(self, value: bool) -> None:
        assert not value


def ranks(job: TrainingJob) -> list[psutil.Process]:
    """Return the running rank processes of a job, rank 0 first."""
    found = []
    for path in sorted(job.folder.glob("process-*")):
        pid = int(path.read_text())
        if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            found.append(psutil.Process(pid))
    return found


class Killer:
    """An event listener that kills ranks of a job once, when a step is reported."""

    def __init__(self, job: TrainingJob, *, step: int, victims: slice) -> None:
        self._job, self._step, self._victims = job, step, victims
        self.killed_at: float | None = None

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "step" and event["step"] >= self._step and self.killed_at is None:
            self.killed_at = time.monotonic()
            for process in ranks(self._job)[self._victims]:
                process.send_signal(signal.SIGKILL)
