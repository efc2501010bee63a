"""Starts the ranks of a training, listens, and turns their end into a result or an error."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from boothline.errors import InterruptedRunError
from boothline.processes import available_cores, listening
from boothline.progress import LineTail
from boothline.settings import Settings
from boothline.training.failures import Watch, failure_of
from boothline.training.job import (
    CURVE_FILE,
    EVENTS_FILE,
    PROCESS_FILE,
    RESULT_FILE,
    SAMPLES_FOLDER,
    VALIDATION_FILE,
    TrainingJob,
)
from boothline.warm import TORCH_LIBRARIES, Child, Warm

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
STOP_SECONDS = 40.0
ELASTIC = "boothline.training.elastic"
OnEvent = Callable[[Mapping[str, object]], None]

_MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**33)}
"""glibc would give every large activation back to the kernel and fetch zeroed pages for the next:
keeping them makes training steps on a CPU shorter."""

_CUBLAS = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
"""cuBLAS reads it when CUDA starts in a process: a workspace for each stream, so that the order of
additions is fixed. In deterministic mode torch refuses matrix products without it."""


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a finished training left.

    Attributes:
        final_state: reference of the training state to publish.
        num_parameters_trained: trained numbers.
        curve: the loss curve, one JSON object a line.
        samples: the sample sheets.
        chosen_step: steps behind the state to publish.
        last_step: steps taken; fewer than asked for when the training ended early.
        pass_size: instance pictures that rank 0 took at once in the end.
        validation: the validations, one JSON object a line; None without.
    """

    final_state: str
    num_parameters_trained: int
    curve: Path
    samples: tuple[Path, ...]
    chosen_step: int
    last_step: int
    pass_size: int
    validation: Path | None = None


def train(
    job: TrainingJob, *, settings: Settings, on_event: OnEvent = lambda event: None
) -> TrainingResult:
    """Train a job with torchrun on this machine, from its newest state.

    Args:
        job: what to train; its folder receives all files.
        settings: the environment that the ranks run in; secrets travel nowhere else.
        on_event: called with each event of rank 0: `phase`, `start`, `inputs`, `step`, `sheet`,
            `smaller` (passes, because memory ran out); and with `silent`: a rank does not answer.

    Raises:
        BoothlineError: what stopped the ranks, as the class it had there.
    """
    ranks = range(job.world_size)
    run_ranks(job, settings=settings, on_event=on_event, ranks=ranks)
    if not (job.folder / RESULT_FILE).exists():
        raise failure_of(job.folder, world_size=job.world_size)
    return result_of(job)


def run_ranks(
    job: TrainingJob,
    *,
    settings: Settings,
    ranks: range,
    on_event: OnEvent = lambda event: None,
    agent: str = ELASTIC,
) -> None:
    """Run this machine's ranks of a job to their end.

    SIGTERM and SIGINT to this process let the ranks save a state first; SIGUSR1 makes them save one
    and continue. Signals are only listened to in the main thread.

    Args:
        job: what to train.
        settings: the environment that the ranks run in.
        ranks: numbers of the ranks on this machine.
        on_event: called with each event of rank 0, where it is on this machine.
        agent: module that starts the ranks.

    Raises:
        BoothlineError: what stopped the ranks, as the class it had there.
    """
    events = LineTail(job.folder / EVENTS_FILE)
    watch = Watch(
        job.folder,
        ranks=ranks,
        warning_seconds=settings.rank_warning_seconds,
        limit_seconds=settings.rank_limit_seconds,
    )
    process = _started(job, settings, agent=agent, num_ranks=len(ranks))
    with _ended_with_us(process), _signals_passed_on(process, job) as received:
        while process.poll() is None:
            _forward(events, on_event)
            if silence := watch.look():
                on_event({"event": "silent", "text": silence})
            try:
                process.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                continue
    _forward(events, on_event)
    if process.returncode == 0:
        return
    error = watch.error() or failure_of(job.folder, world_size=job.world_size, ranks=ranks)
    if received and not isinstance(error, InterruptedRunError):
        raise InterruptedRunError(
            f"Training was stopped by {signal.Signals(received[0]).name}.",
            remedy="`boothline resume` continues from the last training state.",
        ) from error
    raise error


def _forward(events: LineTail, on_event: OnEvent) -> None:
    """Call back with each event that was appended since the last call."""
    for line in events.read():
        on_event(json.loads(line))


def _started(job: TrainingJob, settings: Settings, *, agent: str, num_ranks: int) -> Child:
    """Start torchrun's agent, which gets the id of its parent."""
    variables = _environment(job, settings, num_ranks=num_ranks)
    warm = Warm.of(settings.warm)
    if warm is not None:
        arguments = [str(warm.pid), str(job.save())]
        return warm.start(
            agent,
            arguments,
            env=variables,
            libraries=TORCH_LIBRARIES,
            start_new_session=True,
        )
    command = [sys.executable, "-m", agent, str(os.getpid()), str(job.save())]
    return subprocess.Popen(command, env=variables, start_new_session=True)


def _environment(job: TrainingJob, settings: Settings, *, num_ranks: int) -> dict[str, str]:
    """Return the ranks' environment: ours, the settings, and their share of the cores."""
    environment = {**os.environ, **settings.variables()}
    threads = max(1, available_cores() // num_ranks)
    environment.setdefault("OMP_NUM_THREADS", str(threads))
    for name, value in _MALLOC.items():
        environment.setdefault(name, value)
    if job.config.training.deterministic:
        environment.update(_CUBLAS)
    # Measured with two threads: more arenas than threads take up to a tenth more memory; with one,
    # the threads wait for each other: a tenth to a third longer in the backward pass in bf16.
    environment.setdefault("MALLOC_ARENA_MAX", str(max(2, threads)))
    return environment


def result_of(job: TrainingJob) -> TrainingResult:
    """Return what the ranks of a finished training left in the job's folder."""
    value = json.loads((job.folder / RESULT_FILE).read_text(encoding="utf-8"))
    validation = job.folder / VALIDATION_FILE
    return TrainingResult(
        final_state=value["final_state"],
        num_parameters_trained=value["num_parameters_trained"],
        curve=job.folder / CURVE_FILE,
        samples=tuple(sorted((job.folder / SAMPLES_FOLDER).glob("*.png"))),
        chosen_step=value["chosen_step"],
        last_step=value["last_step"],
        pass_size=value["pass_size"],
        validation=validation if validation.exists() else None,
    )


@contextmanager
def _ended_with_us(process: Child) -> Iterator[None]:
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
def _signals_passed_on(process: Child, job: TrainingJob) -> Iterator[list[int]]:
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
    with listening(handlers):
        yield received
