"""Sending what was logged to one MLflow run, live or at the end: nothing is doubled."""

import logging
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from boothline.errors import BoothlineError
from boothline.tracking.base import CloseStatus, Values, text_of
from boothline.tracking.client import RejectedError, entities_of, translated

if TYPE_CHECKING:
    from mlflow.entities import RunData as LibraryRunData

    from boothline.tracking.client import Client
    from boothline.tracking.entities import RunData as OurRunData

    RunData: TypeAlias = LibraryRunData | OurRunData

logger = logging.getLogger(__name__)


MAX_PARAM_CHARACTERS = 6000
MAX_TAG_CHARACTERS = 8000
Point = tuple[str, int, str]
Batch = dict[str, list[Any]]


def shortened(text: str, limit: int) -> str:
    """Return a text of at most `limit` characters, with an ellipsis where it was cut."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


class Delivery:
    """Sends values to one MLflow run; sending the same again, from anywhere, changes nothing.

    Args:
        client: of the tracking server.
        mlflow_run_id: the run that receives them.
        is_empty: whether the run has nothing yet, which then need not be asked.
    """

    def __init__(self, client: "Client", mlflow_run_id: str, *, is_empty: bool = False) -> None:
        self._client = client
        self._run_id = mlflow_run_id
        self._is_empty = is_empty
        self._points: dict[str, set[Point]] = {}
        self._files: dict[str, dict[str, int | None]] = {}

    def send(self, values: Sequence[Values]) -> None:
        """Send values; those that MLflow refuses for good are named in the log and left out.

        Raises:
            TrackingError: MLflow is unreachable; the same values can be sent again.
        """
        parts = (self._params, self._metrics, self._tags)
        try:
            with translated(f"log to run {self._run_id}"):
                self._log(*(part(values) for part in parts))
        except RejectedError:  # of which only one may be wrong
            for part in parts:
                self._left_out(partial(self._log_part, part, values))
        self._left_out(partial(self._artifacts, values))

    def start(self) -> None:
        """Mark the run as running, also when an earlier attempt or another shard has ended it.

        Raises:
            MissingError: MLflow does not have the run.
            TrackingError: MLflow is unreachable.
        """
        with translated(f"start run {self._run_id}"):
            self._client.update_run(self._run_id, status="RUNNING")

    def end(self, status: CloseStatus, *, time_ms: int) -> None:
        """End the run; the last call decides.

        Raises:
            TrackingError: MLflow is unreachable.
        """
        with translated(f"end run {self._run_id}"):
            self._client.set_terminated(self._run_id, status=status, end_time=time_ms)

    def _left_out(self, send: Callable[[], None]) -> None:
        """Send something; what MLflow refuses for good is named in the log."""
        try:
            with translated(f"log to run {self._run_id}"):
                send()
        except RejectedError as error:
            logger.warning("left out of tracking: %s", error)

    def _log_part(
        self, part: Callable[[Sequence[Values]], Batch], values: Sequence[Values]
    ) -> None:
        self._log(part(values))

    def _log(self, *parts: Batch) -> None:
        """Log parameters, metrics and tags in one request, if there are any."""
        batch = {name: items for part in parts for name, items in part.items()}
        if any(batch.values()):
            self._client.log_batch(self._run_id, **batch)
        for metric in batch.get("metrics", ()):
            self._points[metric.key].add((metric.key, metric.step, str(metric.value)))

    def _params(self, values: Sequence[Values]) -> Batch:
        """Return the parameters that MLflow lacks: it keeps the first value of each for good."""
        wanted = {name: value for one in reversed(values) for name, value in one.params.items()}
        new = [
            self._entities.Param(name, shortened(text_of(value), MAX_PARAM_CHARACTERS))
            for name, value in wanted.items()
            if self._is_empty or name not in self._found.params
        ]
        return {"params": new}

    def _metrics(self, values: Sequence[Values]) -> Batch:
        """Return the points that MLflow lacks."""
        new: dict[Point, Any] = {}
        for one in values:
            for name, number in one.metrics.items():
                point = (name, one.step, str(number))
                if point not in self._known_points(name):
                    new[point] = self._entities.Metric(name, number, one.time_ms, one.step)
        return {"metrics": list(new.values())}

    def _known_points(self, name: str) -> set[Point]:
        if name not in self._points:
            there = not self._is_empty and name in self._found.metrics
            history = self._client.get_metric_history(self._run_id, name) if there else ()
            self._points[name] = {(name, point.step, str(point.value)) for point in history}
        return self._points[name]

    @cached_property
    def _entities(self) -> ModuleType:
        return entities_of(self._client)

    @cached_property
    def _found(self) -> "RunData":
        """What the run had before anything was sent."""
        return self._client.get_run(self._run_id).data

    def _tags(self, values: Sequence[Values]) -> Batch:
        """Return the tags that MLflow lacks or has otherwise."""
        tags = {
            name: shortened(text, MAX_TAG_CHARACTERS)
            for one in values
            for name, text in one.tags.items()
        }
        return {"tags": [self._entities.RunTag(name, text) for name, text in tags.items()]}

    def _artifacts(self, values: Sequence[Values]) -> None:
        """Upload the files that MLflow lacks, or has in another length, in one go."""
        new = {
            one.file: one.content
            for one in values
            if one.file and self._known_files(one.file).get(one.file) != len(one.content)
        }
        if not new:
            return
        with tempfile.TemporaryDirectory(prefix="boothline-artifact-") as place:
            for name, content in new.items():
                path = Path(place, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            self._client.log_artifacts(self._run_id, place)
        for name, content in new.items():
            self._known_files(name)[name] = len(content)

    def _known_files(self, file: str) -> dict[str, int | None]:
        """Return the length of each file in the folder of one, itself included if it is there."""
        folder = file.rpartition("/")[0]
        if folder not in self._files:
            found = (
                () if self._is_empty else self._client.list_artifacts(self._run_id, folder or None)
            )
            self._files[folder] = {file.path: file.file_size for file in found if not file.is_dir}
        return self._files[folder]


SEND_INTERVAL_SECONDS = 1.0
MAX_RETRY_SECONDS = 30.0
CLOSE_DEADLINE_SECONDS = 10.0
# A step that is shorter than this leaves its few values to the end of the run instead of loading
# MLflow; one that fails does not, since its result cannot be shown later.
START_DELAY_SECONDS = 3.0
GAUGE_INTERVAL_SECONDS = 5.0


class LiveRun:
    """A sink whose values a thread sends; while MLflow is away they wait in memory.

    What never arrives is not lost where the store has it: `reconcile` sends that at the end of the
    run. The thread is a daemon, and MLflow's own queue is not used (ADR 0020): nothing keeps the
    process of a step from ending.

    Args:
        connect: makes or finds the step's MLflow run; called in the background until it works.
        gauges: says what the machine is doing; logged while the step is on.
        gauge_seconds: from one reading to the next.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        connect: Callable[[], Delivery],
        *,
        gauges: Callable[[], Mapping[str, float]],
        gauge_seconds: float = GAUGE_INTERVAL_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._connect = connect
        self._gauges = gauges
        self._gauge_seconds = gauge_seconds
        self._clock = clock
        self._opened = time.monotonic()
        self._next_gauge = 0.0
        self._num_gauged = 0
        self._waiting: list[Values] = []
        self._status: CloseStatus | None = None
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def write(self, values: Values) -> None:
        """Keep values to be sent; tags alone wait for others."""
        self._waiting.append(values)
        if self._thread is None and not values.tags:
            self._thread = threading.Thread(target=self._work, name="mlflow-sender", daemon=True)
            self._thread.start()

    def close(self, status: CloseStatus) -> None:
        """Send what is left within ten seconds and end the run; nothing logged, nothing done."""
        self._status = status
        self._closing.set()
        if self._thread is not None:
            self._thread.join(CLOSE_DEADLINE_SECONDS)
            if self._thread.is_alive():
                logger.warning("MLflow is slow: the end of the run makes up for what is missing")

    def _work(self) -> None:
        """Send until the step ends (body of the thread)."""
        self._gauge()
        delay_seconds = START_DELAY_SECONDS - (time.monotonic() - self._opened)
        if delay_seconds > 0 and self._closing.wait(delay_seconds) and self._status != "FAILED":
            return
        delivery: Delivery | None = None
        pause_seconds = SEND_INTERVAL_SECONDS
        while True:
            is_last_round = self._closing.is_set()
            if not is_last_round:
                self._gauge()
            try:
                if delivery is None:
                    delivery = self._connect()
                self._send(delivery)
                if is_last_round and self._status is not None:
                    delivery.end(self._status, time_ms=int(self._clock() * 1000))
                pause_seconds = SEND_INTERVAL_SECONDS
            except BoothlineError as error:
                log = logger.warning if pause_seconds == SEND_INTERVAL_SECONDS else logger.debug
                log("tracking waits for MLflow: %s", error)
                pause_seconds = min(2 * pause_seconds, MAX_RETRY_SECONDS)
            if is_last_round:
                return
            self._closing.wait(pause_seconds)

    def _send(self, delivery: Delivery) -> None:
        """Send what waits; it is dropped only once MLflow has it."""
        num_sent = len(self._waiting)
        delivery.send(self._waiting[:num_sent])
        del self._waiting[:num_sent]

    def _gauge(self) -> None:
        """Log what the machine is doing if it is time.

        The first reading is where the processor's share is counted from: it is not logged.
        """
        now = time.monotonic()
        if now < self._next_gauge:
            return
        numbers = dict(self._gauges())
        if self._num_gauged:
            time_ms = int(self._clock() * 1000)
            self._waiting.append(Values(time_ms=time_ms, metrics=numbers, step=self._num_gauged))
        self._num_gauged += 1
        self._next_gauge = now + self._gauge_seconds
