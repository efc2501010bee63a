"""Trains a job on several nodes: submit, follow, fetch the result, never leave pods behind."""

import logging
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType

from boothline.errors import BoothlineError, InterruptedRunError, ServiceError, TrainingError
from boothline.logs import as_text
from boothline.processes import listening
from boothline.store import Store, layout
from boothline.training.job import TrainingJob
from boothline.training.launch import OnEvent, TrainingResult, result_of
from boothline.trainjob.cluster import Cluster, state_of
from boothline.trainjob.files import (
    as_event,
    receive_result,
    reported_failure,
    result_place,
    send_job,
)
from boothline.trainjob.manifest import JOB_ANNOTATION, name_of, train_job
from boothline.trainjob.settings import TrainJobSettings

logger = logging.getLogger(__name__)
# Events whose files are on the node; the finished training holds them.
_WITH_FILES = ("sheet", "inputs")
_LAST_LINES = 20
_PATIENCE = 15


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How often the cluster is asked, and how long an API that is away is waited for.

    Attributes:
        poll_seconds: pause between two looks.
        outage_seconds: longest time without an answer.
    """

    poll_seconds: float = 2.0
    outage_seconds: float = 300.0


def train_on_nodes(
    job: TrainingJob,
    *,
    settings: TrainJobSettings,
    store: Store,
    cluster: Cluster,
    run_id: str,
    on_event: OnEvent = lambda event: None,
    pace: Pace = Pace(),
) -> TrainingResult:
    """Train a job as a TrainJob and return its result; its folder receives all files.

    A TrainJob of the same training that still runs is followed, not started twice. SIGTERM and
    SIGINT delete the TrainJob, whose ranks then save a state.

    Raises:
        BoothlineError: what stopped the ranks, as the class it had there.
        InterruptedRunError: this process was asked to stop.
        ServiceError: the Kubernetes API is away or refuses.
    """
    name = name_of(layout.key_in(job.states))
    ref = _submitted(cluster, job, name=name, settings=settings, store=store, run_id=run_id)
    follower = _Follower(cluster=cluster, name=name)
    try:
        with _stop_requests() as stopped:
            state, message = _followed(follower, on_event, pace=pace, stopped=stopped)
    finally:
        cluster.delete(name)
        follower.close()
    follower.drain(on_event)
    if state == "Complete" and receive_result(store, job, place=result_place(ref)):
        return result_of(job)
    raise _failure(store, ref, message=message, lines=follower.last_lines)


def _submitted(
    cluster: Cluster,
    job: TrainingJob,
    *,
    name: str,
    settings: TrainJobSettings,
    store: Store,
    run_id: str,
) -> str:
    """Make sure that the TrainJob is there and return the reference of the job that it trains."""
    running = cluster.get(name)
    if running is not None and state_of(running)[0] not in ("Complete", "Failed"):
        logger.warning("following the TrainJob %s, which runs already", name)
        return str(running["metadata"]["annotations"][JOB_ANNOTATION])
    if running is not None:
        cluster.delete(name)
    ref = str(send_job(store, job))
    manifest = train_job(settings, name=name, job=ref, run_id=run_id)
    for _ in range(_PATIENCE):
        if cluster.create(manifest):
            logger.info("created the TrainJob %s with %d nodes", name, settings.num_nodes)
            return ref
        threading.Event().wait(1.0)  # the former one is still being deleted
    raise ServiceError(
        f"A TrainJob {name} is in the way and does not go.",
        remedy=f"kubectl delete trainjob {name} --namespace {settings.namespace}",
    )


@dataclass(kw_only=True)
class _Follower:
    """Reads the log of node 0 in a thread of its own, from the start whenever it breaks off."""

    cluster: Cluster
    name: str
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LAST_LINES))
    _lines: "queue.SimpleQueue[str]" = field(default_factory=queue.SimpleQueue)
    _thread: threading.Thread | None = None
    _pod: str = ""
    _seen: int = 0

    def look(self) -> None:
        """Start reading as soon as there is a pod; read on where the stream broke off."""
        if self._thread is not None and self._thread.is_alive():
            return
        pod = self.cluster.first_pod(self.name)
        if pod and pod != self._pod:
            self._pod, self._seen = pod, 0
        if pod:
            self._thread = threading.Thread(target=self._read, args=(pod,), daemon=True)
            self._thread.start()

    def _read(self, pod: str) -> None:
        skip = self._seen
        with suppress(ServiceError):
            for number, line in enumerate(self.cluster.log(pod)):
                if number >= skip:
                    self._seen = number + 1
                    self._lines.put(line)

    def drain(self, on_event: OnEvent) -> None:
        """Pass on the events that have come; other lines go to the log."""
        while not self._lines.empty():
            line = self._lines.get()
            event = as_event(line)
            if event is not None and event["event"] not in _WITH_FILES:
                on_event(event)
            elif event is None:
                said = as_text(line)
                self.last_lines.append(said)
                logger.info("node 0: %s", said)

    def close(self) -> None:
        """Wait a moment for the last lines."""
        if self._thread is not None:
            self._thread.join(_PATIENCE)


def _followed(
    follower: _Follower, on_event: OnEvent, *, pace: Pace, stopped: threading.Event
) -> tuple[str, str]:
    """Follow a TrainJob to its end and return its last state and message.

    Raises:
        InterruptedRunError: a stop was asked for.
        ServiceError: the API was away for too long.
    """
    answered, before = time.monotonic(), ""
    while not stopped.is_set():
        try:
            job = follower.cluster.get(follower.name)
            follower.look()
            answered = time.monotonic()
        except ServiceError as error:
            if time.monotonic() - answered > pace.outage_seconds:
                raise
            logger.warning("%s", error)
            stopped.wait(pace.poll_seconds)
            continue
        if job is None:
            return "Deleted", "Somebody deleted the TrainJob."
        state, message = state_of(job)
        if state != before:
            logger.info("TrainJob %s: %s %s", follower.name, state, message)
            on_event({"event": "phase", "name": f"TrainJob {state.lower()}"})
            before = state
        follower.drain(on_event)
        if state in ("Complete", "Failed"):
            return state, message
        stopped.wait(pace.poll_seconds)
    raise InterruptedRunError(
        "Training was stopped; the ranks were asked to save their state.",
        remedy="`boothline resume` continues from the last training state.",
    )


def _failure(store: Store, ref: str, *, message: str, lines: deque[str]) -> BoothlineError:
    """Return why a TrainJob left no result."""
    reported = reported_failure(store, ref)
    if reported is not None:
        return reported
    said = f" Last lines of node 0: {' | '.join(list(lines)[-3:])}" if lines else ""
    return TrainingError(
        f"The TrainJob failed: {message or 'it left no result.'}{said}",
        remedy="See the events of its pods; `boothline resume` continues from the last state.",
    )


@contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM and SIGINT set, where this is the main thread."""
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        logger.warning("stopping the TrainJob on %s", signal.Signals(number).name)
        stopped.set()

    with listening({signal.SIGTERM: stop, signal.SIGINT: stop}):
        yield stopped
