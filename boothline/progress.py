"""Progress of steps: one JSON line an event, in the run folder and as log lines."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

logger = logging.getLogger(__name__)

EventKind = Literal["started", "progress", "remark", "done", "failed"]


class Event(BaseModel):
    """Something a step reports.

    Attributes:
        time: seconds since the epoch.
        step: name of the step.
        shard: number of the shard, if the step is sharded.
        kind: what happened.
        done, total, unit: how far (`done` of `total` `unit`).
        note: a short text for the live table, e.g. `loss 0.041`.
        remark: what is still worth reading once the step is done.
        reused, manifest: of a `done` event.
        error, remedy, exit_code: of a `failed` event.
        run_goes_on: of a `failed` event: only a trial of a sweep ends.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    time: float
    step: str
    shard: int | None = None
    kind: EventKind
    done: int = 0
    total: int = 0
    unit: str = ""
    note: str = ""
    remark: str = ""
    reused: bool = False
    manifest: str = ""
    error: str = ""
    remedy: str = ""
    exit_code: int = 0
    run_goes_on: bool = False


def label_of(step: str, shard: int | None) -> str:
    """Return the name of a step or of one of its shards, e.g. `train`, `generate_prior-1`."""
    return step if shard is None else f"{step}-{shard}"


class Progress:
    """Reports the progress of one step or shard.

    Args:
        step: name of the step.
        shard: number of the shard, if sharded.
        run_dir: local run folder; None reports to the log only.
        clock: seconds since the epoch.
        min_interval_seconds: counts closer than this are dropped (the last is kept). Default: 0.25
            in a run folder, which a live table reads; 2 where the lines only lengthen a pod's log.
    """

    def __init__(
        self,
        step: str,
        *,
        shard: int | None = None,
        run_dir: Path | None = None,
        clock: Callable[[], float] = time.time,
        min_interval_seconds: float | None = None,
    ) -> None:
        self.step = step
        self.shard = shard
        self._path = run_dir / "events" / f"{label_of(step, shard)}.jsonl" if run_dir else None
        self._clock = clock
        if min_interval_seconds is None:
            min_interval_seconds = 0.25 if run_dir else 2.0
        self._min_interval_seconds = min_interval_seconds
        self._last_time = 0.0
        if self._path:
            self._path.parent.mkdir(parents=True, exist_ok=True)

    def update(
        self, done: int, total: int, *, unit: str, note: str = "", once: bool = False
    ) -> None:
        """Report `done` of `total` `unit`; calls closer than the interval are dropped.

        Args:
            done: how many are done.
            total: how many there are in all.
            unit: what is counted.
            note: a short text for the live table.
            once: the note says something that no later call repeats (a phase, a resumption): it is
                never dropped.
        """
        now = self._clock()
        soon = now - self._last_time < self._min_interval_seconds
        if soon and done < total and not once:
            return
        self._last_time = now
        self.emit(
            Event(
                time=now,
                step=self.step,
                shard=self.shard,
                kind="progress",
                done=done,
                total=total,
                unit=unit,
                note=note,
            )
        )

    def remark(self, text: str) -> None:
        """Report something that stays in the table and among the lines when the step is done."""
        self.emit(
            Event(time=self._clock(), step=self.step, shard=self.shard, kind="remark", remark=text)
        )

    def emit(self, event: Event) -> None:
        """Write one event."""
        counted = f"{event.done}/{event.total} {event.unit}" if event.total else ""
        said = (counted, event.note or event.remark or event.error)
        logger.info(" ".join([label_of(event.step, event.shard), event.kind, *filter(None, said)]))
        if self._path:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(event.model_dump_json(exclude_defaults=True) + "\n")


class LineTail:
    """Reads the lines that a file gains, each once.

    Args:
        path: the file; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[bytes]:
        """Return the complete lines since the last call; a torn last line waits."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as stream:
            stream.seek(self._offset)
            data = stream.read()
        complete = data[: data.rfind(b"\n") + 1]
        self._offset += len(complete)
        return complete.splitlines()


def read_events(run_dir: Path) -> list[Event]:
    """Return all events of a run folder in the order of time; a torn last line is left out."""
    events: list[Event] = []
    for path in sorted((run_dir / "events").glob("*.jsonl")):
        events += [Event.model_validate_json(line) for line in LineTail(path).read()]
    return sorted(events, key=lambda event: event.time)
