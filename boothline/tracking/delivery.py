"""Sending what was logged to one MLflow run, live or at the end: nothing is doubled."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial

from boothline.catalogue import ends_run
from boothline.errors import BoothlineError
from boothline.metering import read_gauges
from boothline.settings import Settings
from boothline.store import Store
from boothline.tracking.base import CloseStatus, Sink, StepTracker, Values, text_of
from boothline.tracking.client import (
    Answer,
    Client,
    Item,
    RejectedError,
    listed,
    point,
)
from boothline.tracking.identity import MlflowRuns

logger = logging.getLogger(__name__)


MAX_PARAM_CHARACTERS = 6000
MAX_TAG_CHARACTERS = 8000
Point = tuple[str, int, str]


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

    def __init__(self, client: Client, mlflow_run_id: str, *, is_empty: bool = False) -> None:
        self._client = client
        self._run_id = mlflow_run_id
        self._is_empty = is_empty
        self._points: dict[str, set[Point]] = {}
        self._files: dict[str, dict[str, int]] = {}

    def send(self, values: Sequence[Values]) -> None:
        """Send values; those that MLflow refuses for good are named in the log and left out.

        Raises:
            TrackingError: MLflow is unreachable; the same values can be sent again.
        """
        points = self._points_of(values)
        batch = {
            "params": self._params_of(values),
            "metrics": list(points.values()),
            "tags": _tags_of(values),
        }
        try:
            self._client.log_batch(self._run_id, **batch)
        except RejectedError:  # of which only one may be wrong
            for kind, items in batch.items():
                _left_out(partial(self._client.log_batch, self._run_id, **{kind: items}))
        for known in points:
            self._points[known[0]].add(known)
        _left_out(partial(self._log_files, values))

    def start(self) -> None:
        """Mark the run as running, also when an earlier attempt or another shard has ended it.

        Raises:
            MissingError: MLflow does not have the run.
            TrackingError: MLflow is unreachable.
        """
        to = f"start run {self._run_id}"
        self._client.post("runs/update", to=to, run_id=self._run_id, status="RUNNING")

    def end(self, status: CloseStatus, *, time_ms: int) -> None:
        """End the run; the last call decides.

        Raises:
            TrackingError: MLflow is unreachable.
        """
        self._client.post(
            "runs/update",
            to=f"end run {self._run_id}",
            run_id=self._run_id,
            status=status,
            end_time=time_ms,
        )

    def _params_of(self, values: Sequence[Values]) -> list[Item]:
        """Return the parameters that MLflow lacks: it keeps the first value of each for good."""
        wanted = {name: value for one in reversed(values) for name, value in one.params.items()}
        there = self._there["params"] if wanted else ()
        texts = {name: text_of(value) for name, value in wanted.items() if name not in there}
        return listed({name: shortened(text, MAX_PARAM_CHARACTERS) for name, text in texts.items()})

    def _points_of(self, values: Sequence[Values]) -> dict[Point, Item]:
        """Return the points that MLflow lacks."""
        return {
            known: point(name, number, one.time_ms, one.step)
            for one in values
            for name, number in one.metrics.items()
            if (known := (name, one.step, str(number))) not in self._known_points(name)
        }

    def _known_points(self, name: str) -> set[Point]:
        if name not in self._points:
            answer: Answer = {}
            if name in self._there["metrics"]:
                to = f"show {name} of run {self._run_id}"
                answer = self._client.get(
                    "metrics/get-history", to=to, run_id=self._run_id, metric_key=name
                )
            self._points[name] = {
                (name, int(there.get("step", 0)), str(float(there["value"])))
                for there in answer.get("metrics", ())
            }
        return self._points[name]

    @cached_property
    def _there(self) -> dict[str, set[str]]:
        """The names of the parameters and metrics that the run had before anything was sent."""
        data = {} if self._is_empty else self._client.run(self._run_id)["data"]
        return {kind: {one["key"] for one in data.get(kind, ())} for kind in ("params", "metrics")}

    def _log_files(self, values: Sequence[Values]) -> None:
        """Upload the files that MLflow lacks, or has in another length, in one go."""
        new = {
            one.file: one.content
            for one in values
            if one.file and self._known_files(one.file).get(one.file) != len(one.content)
        }
        if new:
            self._client.log_files(self._run_id, new)
        for name, content in new.items():
            self._known_files(name)[name] = len(content)

    def _known_files(self, file: str) -> dict[str, int]:
        """Return the length of each file in the folder of one, itself included if it is there."""
        folder = file.rpartition("/")[0]
        if folder not in self._files:
            self._files[folder] = (
                {} if self._is_empty else self._client.files_in(self._run_id, folder)
            )
        return self._files[folder]


def _left_out(send: Callable[[], None]) -> None:
    """Send something; what MLflow refuses for good is named in the log."""
    try:
        send()
    except RejectedError as error:
        logger.warning("left out of tracking: %s", error)


def _tags_of(values: Sequence[Values]) -> list[Item]:
    tags = {name: text for one in values for name, text in one.tags.items()}
    return listed({name: shortened(text, MAX_TAG_CHARACTERS) for name, text in tags.items()})


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
    """

    def __init__(
        self,
        connect: Callable[[], Delivery],
        *,
        gauges: Callable[[], Mapping[str, float]],
        gauge_seconds: float = GAUGE_INTERVAL_SECONDS,
    ) -> None:
        self._connect = connect
        self._gauges = gauges
        self._gauge_seconds = gauge_seconds
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
                    delivery.end(self._status, time_ms=int(time.time() * 1000))
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
            time_ms = int(time.time() * 1000)
            self._waiting.append(Values(time_ms=time_ms, metrics=numbers, step=self._num_gauged))
        self._num_gauged += 1
        self._next_gauge = now + self._gauge_seconds


def open_step_tracker(
    settings: Settings,
    *,
    store: Store,
    run_id: str,
    step: str,
    experiment: str = "boothline",
    tensorboard: bool = False,
    wandb: bool = False,
    further: Iterable[Sink] = (),
) -> StepTracker:
    """Return the tracker of a step; nothing is loaded or sent before the first value.

    Args:
        settings: says where the tracking server and the local folders are; without a server
            nothing goes to MLflow.
        store: remembers which MLflow run belongs to the step.
        run_id: the pipeline run.
        step: name of the step; all its shards share one MLflow run.
        experiment: name of the MLflow experiment (`tracking.experiment` of the configuration).
        tensorboard: write TensorBoard event files, under the run's folder.
        wandb: write an offline run of Weights & Biases, under the run's folder.
        further: sinks that get every value, too.

    Raises:
        ConfigError: the library of one of them is missing.
    """
    if ends_run(step):  # it has no MLflow run of its own
        return StepTracker()
    sinks = list(further)
    folder = settings.run_dir or settings.home / "runs" / run_id

    def reached() -> Delivery:
        runs = MlflowRuns.connect(settings, store, run_id, experiment=experiment)
        delivery = Delivery(runs.client, runs.run(step).mlflow_run_id)
        delivery.start()
        return delivery

    if settings.mlflow_uri:
        sinks.append(LiveRun(reached, gauges=read_gauges))
    if tensorboard:
        from boothline.tracking.boards import Board

        sinks.append(Board(folder / "tensorboard" / step))
    if wandb:
        from boothline.tracking.boards import OfflineRun

        sinks.append(OfflineRun(folder, project=experiment, group=run_id, step=step))
    return StepTracker(*sinks)
