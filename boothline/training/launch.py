"""Starts the ranks of a training, listens, and turns their end into a result or an error."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from pydantic import SecretStr

from boothline.errors import InterruptedRunError
from boothline.settings import Settings
from boothline.training.failures import failure_of
from boothline.training.job import (
    CURVE_FILE,
    EVENTS_FILE,
    PROCESS_FILE,
    RESULT_FILE,
    SAMPLES_FOLDER,
    TrainingJob,
)

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
STOP_SECONDS = 40.0
OnEvent = Callable[[Mapping[str, Any]], None]

_MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**33)}
"""glibc would give every large activation back to the kernel and fetch zeroed pages for the next:
keeping them made training steps on a CPU 5 to 10 per cent shorter, at the same peak memory."""


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a finished training left.

    Attributes:
        final_state: reference of the last training state.
        num_parameters_trained: trained numbers.
        curve: the loss curve, one JSON object a line.
        samples: the sample sheets.
    """

    final_state: str
    num_parameters_trained: int
    curve: Path
    samples: tuple[Path, ...]


def train(
    job: TrainingJob, *, settings: Settings, on_event: OnEvent = lambda event: None
) -> TrainingResult:
    """Train a job with torchrun on this machine, from its newest state.

    SIGTERM and SIGINT to this process let the ranks save a state first; SIGUSR1 makes them save one
    and go on. Signals are only listened to in the main thread.

    Args:
        job: what to train; its folder receives all files.
        settings: the environment that the ranks run in; secrets travel nowhere else.
        on_event: called with each event of rank 0: `phase`, `start`, `step`, `sheet`.

    Raises:
        BoothlineError: what stopped the ranks, as the class it had there.
    """
    events = _EventReader(job.folder / EVENTS_FILE)
    process = subprocess.Popen(
        _command(job), env=_environment(job, settings), start_new_session=True
    )
    with _ended_with_us(process), _signals_passed_on(process, job) as received:
        while process.poll() is None:
            events.forward(on_event)
            try:
                process.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                continue
    events.forward(on_event)
    result = job.folder / RESULT_FILE
    if process.returncode == 0 and result.exists():
        return _result(job, json.loads(result.read_text(encoding="utf-8")))
    error = failure_of(job.folder, world_size=job.world_size)
    if received and not isinstance(error, InterruptedRunError):
        raise InterruptedRunError(
            f"Training was stopped by {signal.Signals(received[0]).name}.",
            remedy="`boothline resume` goes on from the last training state.",
        ) from error
    raise error


def _command(job: TrainingJob) -> list[str]:
    """Return the torchrun command of a job."""
    return [
        sys.executable,
        "-m",
        "boothline.training.elastic",
        str(os.getpid()),
        str(job.save()),
    ]


def _environment(job: TrainingJob, settings: Settings) -> dict[str, str]:
    """Return the ranks' environment: ours, the settings, and their share of the cores."""
    environment = dict(os.environ)
    for name, value in settings:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if text not in (None, ""):
            environment[f"BOOTHLINE_{name.upper()}"] = str(text)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = max(1, (cores or 1) // job.world_size)
    environment.setdefault("OMP_NUM_THREADS", str(threads))
    for name, value in _MALLOC.items():
        environment.setdefault(name, value)
    return environment


def _result(job: TrainingJob, value: Mapping[str, Any]) -> TrainingResult:
    return TrainingResult(
        final_state=value["final_state"],
        num_parameters_trained=value["num_parameters_trained"],
        curve=job.folder / CURVE_FILE,
        samples=tuple(sorted((job.folder / SAMPLES_FOLDER).glob("*.png"))),
    )


@contextmanager
def _ended_with_us(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Never leave the ranks behind: stop them when the block is left by an exception."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextmanager
def _signals_passed_on(process: "subprocess.Popen[bytes]", job: TrainingJob) -> Iterator[list[int]]:
    """Pass signals on to torchrun; yields the list that receives the stops among them."""
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        logger.warning("stopping the training on %s", signal.Signals(number).name)
        received.append(number)
        process.terminate()

    def save(number: int, frame: FrameType | None) -> None:
        main_rank = job.folder / PROCESS_FILE.format(rank=0)
        if main_rank.exists():
            os.kill(int(main_rank.read_text(encoding="utf-8")), signal.SIGUSR1)

    handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGUSR1: save}
    if threading.current_thread() is not threading.main_thread():
        handlers = {}
    former = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield received
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


class _EventReader:
    """Reads the complete new lines of an event file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def forward(self, on_event: OnEvent) -> None:
        """Call back with each event that was appended since the last call."""
        if not self._path.exists():
            return
        with self._path.open("rb") as stream:
            stream.seek(self._offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                on_event(json.loads(line))
