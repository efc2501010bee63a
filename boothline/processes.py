"""Processes of this machine: the signals they answer, whose they are, how they are ended."""

import ctypes
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import psutil

logger = logging.getLogger(__name__)

# NVIDIA's driver on Linux, its devices in WSL, and AMD's driver.
_GPU_DRIVERS = (Path("/proc/driver/nvidia"), Path("/dev/dxg"), Path("/dev/kfd"))


def available_cores() -> int:
    """Return the cores that this process may use, at least 1.

    That is the least of the machine's cores, the process's affinity and the CPU quota of its
    control group (v1 or v2), rounded up. A container's CPU limit is such a quota: the affinity
    still shows every core of the node, and a thread for each of them would mostly be throttled.
    """
    import joblib

    return int(joblib.cpu_count())


def num_gpus(drivers: Sequence[Path] = _GPU_DRIVERS) -> int:
    """Return the GPUs that this process may use; torch is only loaded where there is a driver."""
    if not any(driver.exists() for driver in drivers):
        return 0
    import torch

    return torch.cuda.device_count()


def cores_for(num_processes: int) -> dict[str, str]:
    """Return the variables that leave each of several processes its share of the cores."""
    share = max(1, available_cores() // num_processes)
    return {"LOKY_MAX_CPU_COUNT": str(share)}  # joblib counts no more


Handler = Callable[[int, FrameType | None], object]

PARENT_DEATH_SIGNAL = 1
PROCESS_NAME = 15
_KILL_SECONDS = 5.0


@contextmanager
def listening(handlers: Mapping[signal.Signals, Handler]) -> Iterator[None]:
    """Answer signals inside the block, where this is the main thread; elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        handlers = {}
    former = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def control(option: int, value: int | bytes) -> None:
    """Set an option of this process in the kernel (Linux's prctl; elsewhere nothing).

    Args:
        option: PARENT_DEATH_SIGNAL, the signal that the death of the parent sends; or PROCESS_NAME.
        value: the signal, or a name of at most 15 bytes.
    """
    try:
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
    except (OSError, AttributeError):
        logger.debug("no option %d of processes on this system", option)


def variable_of(process: psutil.Process, name: str) -> str:
    """Return a variable of a process; empty where it has none, is another's or has ended."""
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
        return str(process.environ().get(name, ""))
    except (psutil.Error, ProcessLookupError):
        return ""


def end(processes: Sequence[psutil.Process], *, grace_seconds: float) -> None:
    """Send SIGTERM to processes and SIGKILL to those that outlive the grace period."""
    for process in processes:
        _send(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(processes, timeout=grace_seconds)
    kill(alive)


def kill(processes: Sequence[psutil.Process]) -> None:
    """Send SIGKILL to processes and wait for their end."""
    for process in processes:
        _send(process, signal.SIGKILL)
    psutil.wait_procs(processes, timeout=_KILL_SECONDS)


def _send(process: psutil.Process, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
