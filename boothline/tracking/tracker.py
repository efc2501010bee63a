"""The tracker of a step: writes a spool at once, sends it to MLflow in the background."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from boothline.errors import BoothlineError
from boothline.tracking.base import CloseStatus
from boothline.tracking.delivery import Delivery, text_of
from boothline.tracking.spool import Entry, Spool, SpoolWriter

logger = logging.getLogger(__name__)

SEND_INTERVAL_SECONDS = 1.0
MAX_RETRY_SECONDS = 30.0
CLOSE_DEADLINE_SECONDS = 10.0
# A step that is shorter than this leaves its few values to the end of the run instead of loading
# MLflow.
START_DELAY_SECONDS = 3.0
GAUGE_INTERVAL_SECONDS = 5.0


class SpoolTracker:
    """Tracks one step of one process; no call raises or waits for a server.

    Values go to a file first. A thread loads MLflow, makes the step's run and sends the file; what
    is not sent when the step ends is sent by `reconcile` at the end of the run.

    Args:
        spool: where the values are kept.
        connect: makes or finds the step's MLflow run; called in the background until it works.
        replayed: whether the end of this run finds the spool (it lies in the run's folder): then a
            short step never loads MLflow, and tags alone never do.
        clock: seconds since the epoch.
        gauges: tells what the machine is doing; logged while the step is on.
        gauge_seconds: from one reading to the next.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        connect: Callable[[], Delivery],
        replayed: bool,
        clock: Callable[[], float] = time.time,
        gauges: Callable[[], Mapping[str, float]] | None = None,
        gauge_seconds: float = GAUGE_INTERVAL_SECONDS,
    ) -> None:
        self._spool = spool
        self._connect = connect
        self._replayed = replayed
        self._clock = clock
        self._gauges = gauges
        self._gauge_seconds = gauge_seconds
        self._next_gauge = 0.0
        self._num_gauged = 0
        self._writing = threading.Lock()
        self._writer: SpoolWriter | None = None
        self._is_broken = False
        self._params: set[str] = set()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def params(self, values: Mapping[str, object]) -> None:
        """Log parameters; the first value of a name stays."""
        texts = {name: text_of(value) for name, value in values.items() if name not in self._params}
        if texts:
            self._params |= texts.keys()
            self._append(Entry(kind="params", time_ms=self._now_ms(), texts=texts), send=True)

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """Log metrics at a training step."""
        numbers = {name: float(value) for name, value in values.items()}
        self._append(
            Entry(kind="metrics", time_ms=self._now_ms(), numbers=numbers, step=step), send=True
        )

    def artifact(self, path: Path, *, folder: str = "") -> None:
        """Log a copy of a small file under a folder of the run's artifacts."""
        try:
            name = self._open_writer().copy_in(path)
        except OSError as error:
            self._break(error)
            return
        self._append(
            Entry(kind="artifact", time_ms=self._now_ms(), file=name, folder=folder), send=True
        )

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        self._append(Entry(kind="tags", time_ms=self._now_ms(), texts=dict(values)), send=False)

    def close(self, status: CloseStatus) -> None:
        """Send what is left within ten seconds and end the run; nothing logged, nothing done."""
        if self._writer is None:
            return
        self._append(
            Entry(kind="status", time_ms=self._now_ms(), status=status), send=not self._replayed
        )
        self._closing.set()
        if self._thread is not None:
            self._thread.join(CLOSE_DEADLINE_SECONDS)
        self._writer.close()
        if self._thread is not None and self._thread.is_alive():
            logger.warning("MLflow is slow: %s is sent at the end of the run", self._spool.path)
        elif not self._spool.read(max_entries=1)[0] and not self._is_broken:
            self._spool.remove()

    def _append(self, entry: Entry, *, send: bool) -> None:
        if self._is_broken:
            return
        try:
            with self._writing:
                self._open_writer().append(entry)
        except OSError as error:
            self._break(error)
            return
        if send and self._thread is None:
            self._thread = threading.Thread(target=self._work, name="mlflow-sender", daemon=True)
            self._thread.start()

    def _open_writer(self) -> SpoolWriter:
        if self._writer is None:
            self._writer = SpoolWriter(self._spool)
        return self._writer

    def _break(self, error: OSError) -> None:
        """Stop tracking: a step must not fail because its spool cannot be written."""
        if not self._is_broken:
            logger.warning("tracking of this step stops here: %s", error)
        self._is_broken = True

    def _work(self) -> None:
        """Send until the step ends (body of the thread)."""
        if self._replayed and self._closing.wait(START_DELAY_SECONDS):
            return
        delivery: Delivery | None = None
        pause_seconds = SEND_INTERVAL_SECONDS
        while True:
            is_last_round = self._closing.is_set()
            self._gauge()
            try:
                if delivery is None:
                    delivery = self._connect()
                delivery.drain(self._spool)
                pause_seconds = SEND_INTERVAL_SECONDS
            except BoothlineError as error:
                log = logger.warning if pause_seconds == SEND_INTERVAL_SECONDS else logger.debug
                log("tracking waits, values are kept in %s: %s", self._spool.path, error)
                pause_seconds = min(2 * pause_seconds, MAX_RETRY_SECONDS)
            if is_last_round:
                return
            self._closing.wait(pause_seconds)

    def _gauge(self) -> None:
        """Log what the machine is doing if it is time and the step is still on.

        The first reading is where the processor's share is counted from: it is not logged.
        """
        now = time.monotonic()
        if self._gauges is None or self._closing.is_set() or now < self._next_gauge:
            return
        numbers = dict(self._gauges())
        if self._num_gauged:
            self._append(
                Entry(
                    kind="metrics", time_ms=self._now_ms(), numbers=numbers, step=self._num_gauged
                ),
                send=False,
            )
        self._num_gauged += 1
        self._next_gauge = now + self._gauge_seconds

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
