"""Sends what a step logs to MLflow while it works, in the background and as far as it answers."""

import logging
import threading
import time
from collections.abc import Callable, Mapping

from boothline.errors import BoothlineError
from boothline.tracking.base import CloseStatus, Values
from boothline.tracking.delivery import Delivery

logger = logging.getLogger(__name__)

SEND_INTERVAL_SECONDS = 1.0
MAX_RETRY_SECONDS = 30.0
CLOSE_DEADLINE_SECONDS = 10.0
# A step that is shorter than this leaves its few values to the end of the run instead of loading
# MLflow; one that fails does not, since its result cannot be shown later.
START_DELAY_SECONDS = 3.0
GAUGE_INTERVAL_SECONDS = 5.0


class LiveRun:
    """A sink whose values a thread sends; while MLflow is away they wait in memory.

    What never arrives is no loss where the store has it: `reconcile` sends that at the end of the
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
