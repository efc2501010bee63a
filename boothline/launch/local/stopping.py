"""Stops a run of this machine from another process."""

import os
import signal
import threading
import time
from pathlib import Path

from boothline.errors import ConfigError, ServiceError
from boothline.launch.local.folder import RunFolder, active_process

_LONGEST_SECONDS = 90.0
_POLL_SECONDS = 0.1


def stop(home: Path, folder: RunFolder, *, longest_seconds: float = _LONGEST_SECONDS) -> float:
    """Interrupt a run as Ctrl-C does, wait for its end and return the seconds that took.

    Its steps may commit their state first.

    Args:
        home: the home folder.
        folder: the run's folder.
        longest_seconds: how long the end is waited for.

    Raises:
        ConfigError: the run is not active.
        ServiceError: it has not ended in that time.
    """
    process = active_process(home, folder.run_id)
    if process is None:
        raise ConfigError(
            f"Run {folder.run_id} is not running in {home}.",
            remedy=f"See boothline status {folder.run_id}.",
        )
    started, pause = time.monotonic(), threading.Event()
    os.kill(process, signal.SIGINT)
    while active_process(home, folder.run_id) is not None:
        if time.monotonic() - started > longest_seconds:
            raise ServiceError(
                f"Run {folder.run_id} (process {process}) has not ended after "
                f"{longest_seconds:.0f} s.",
                remedy="Its steps may be committing their state; call boothline cancel again.",
            )
        pause.wait(_POLL_SECONDS)
    return time.monotonic() - started
