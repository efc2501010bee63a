"""What a step logs, and where it goes: each value once to every sink."""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

CloseStatus = Literal["FINISHED", "FAILED", "KILLED"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Values:
    """What is logged at once.

    Attributes:
        time_ms: when, in milliseconds since the epoch.
        params: parameters by name.
        metrics: numbers by name.
        step: training step of the metrics.
        tags: texts by name.
        file: path of a small file among the run's artifacts; empty: there is none.
        content: of the file.
    """

    time_ms: int
    params: Mapping[str, object] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    step: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    file: str = ""
    content: bytes = b""


class Sink(Protocol):
    """Keeps what a step logs; it neither raises for a server nor waits for one."""

    def write(self, values: Values) -> None:
        """Keep values."""

    def close(self, status: CloseStatus) -> None:
        """Keep how the step ended; does nothing if nothing was written."""


class Logged(list[Values]):
    """A sink that keeps what is logged, in order."""

    def write(self, values: Values) -> None:
        """Keep values."""
        self.append(values)

    def close(self, status: CloseStatus) -> None:
        """Keep nothing of it."""


class StepTracker:
    """Receives parameters, metrics and files of one step and passes each on once.

    A step logs while it works, and what its result shows is logged after it: what is the same is
    left out the second time.

    Args:
        sinks: receive the values; without any, everything is dropped.
        clock: seconds since the epoch.
        parts: names of the part of the step that logs, which come first in all others.
    """

    def __init__(
        self, *sinks: Sink, clock: Callable[[], float] = time.time, parts: Sequence[str] = ()
    ) -> None:
        self._sinks = sinks
        self._clock = clock
        self._parts = parts
        self._seen: set[tuple[object, ...]] = set()

    def within(self, name: str) -> "StepTracker":
        """Return a tracker for a part of the step, in whose names the part's comes first."""
        return StepTracker(*self._sinks, clock=self._clock, parts=(*self._parts, name))

    @property
    def drops_all(self) -> bool:
        """Whether nobody receives what is logged."""
        return not self._sinks

    def params(self, values: Mapping[str, object]) -> None:
        """Log parameters; the first value of a name stays."""
        new = {name: value for name, value in values.items() if self._is_new("param", name)}
        if new:
            self._write(Values(time_ms=self._now_ms(), params=new))

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """Log metrics at a training step."""
        numbers = {name: float(value) for name, value in values.items()}
        new = {name: n for name, n in numbers.items() if self._is_new("metric", name, step, n)}
        if new:
            self._write(Values(time_ms=self._now_ms(), metrics=new, step=step))

    def artifact(self, path: Path, *, folder: str = "") -> None:
        """Log a copy of a small file (a picture, a report) under a folder of the artifacts."""
        name = f"{folder}/{path.name}".lstrip("/")
        try:
            content = path.read_bytes()
        except OSError as error:  # a step must not fail for it
            logger.warning("left out of tracking (%s): %s", name, error)
            return
        if self._is_new("file", name):
            self._write(Values(time_ms=self._now_ms(), file=name, content=content))

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        self._write(Values(time_ms=self._now_ms(), tags=dict(values)))

    def close(self, status: CloseStatus) -> None:
        """Flush what is left and end the run; does nothing if nothing was logged."""
        for sink in self._sinks:
            sink.close(status)

    def _is_new(self, *value: object) -> bool:
        is_new = value not in self._seen
        self._seen.add(value)
        return is_new

    def _write(self, values: Values) -> None:
        """Pass values on, with the part's name in front of theirs."""
        dotted_part, part_folder = (mark.join((*self._parts, "")) for mark in "./")
        named = replace(
            values,
            params={f"{dotted_part}{name}": value for name, value in values.params.items()},
            metrics={f"{part_folder}{name}": number for name, number in values.metrics.items()},
            tags={f"{dotted_part}{name}": text for name, text in values.tags.items()},
            file=f"{part_folder}{values.file}" if values.file else "",
        )
        for sink in self._sinks:
            sink.write(named)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


class MemoryTracker(StepTracker):
    """Keeps everything in memory: the fake that tests use."""

    def __init__(self) -> None:
        super().__init__(self)
        self.logged_params: dict[str, object] = {}
        self.logged_metrics: list[tuple[int, dict[str, float]]] = []
        self.logged_tags: dict[str, str] = {}
        self.logged_artifacts: list[str] = []
        self.status: str = ""

    def write(self, values: Values) -> None:
        """Keep values."""
        self.logged_params.update(values.params)
        if values.metrics:
            self.logged_metrics.append((values.step, dict(values.metrics)))
        self.logged_tags.update(values.tags)
        self.logged_artifacts += [values.file] if values.file else []

    def close(self, status: CloseStatus) -> None:
        """Keep the status."""
        self.status = status


def dotted(config: Mapping[str, object], *, prefix: str = "") -> dict[str, object]:
    """Return the values of a nested configuration by dotted name."""
    values: dict[str, object] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            values |= dotted(value, prefix=f"{prefix}{name}.")
        else:
            values[f"{prefix}{name}"] = value
    return values


def text_of(value: object) -> str:
    """Return a parameter as text: texts as they are, everything else as JSON where it can be."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
