"""Metrics of a step or a rank: the training, the store, memory and GPUs, and how it ended."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from boothline.metering import gpu_use
from boothline.store.transfers import COUNTED, TRAFFIC
from boothline.tracking.base import CloseStatus, Values

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation

    from boothline.telemetry.export import Collector
    from boothline.telemetry.observing import Observed

    Callback = Callable[[CallbackOptions], Iterator[Observation]]

Labels = Mapping[str, str | int]
_NAMES = {
    "instance_loss": ("loss", {"kind": "instance"}),
    "prior_loss": ("loss", {"kind": "prior"}),
    "learning_rate": ("learning_rate", {}),
    "grad_norm": ("gradient_norm", {}),
    "images_per_second": ("images_per_second", {}),
}
"""Of what a training logs: the metric `boothline.training.<name>` and its labels."""
_STORE = {"sent_bytes": ("sent", "By"), "received_bytes": ("received", "By")}


@contextmanager
def metered(collector: "Collector", labels: Labels, observed: "Observed") -> Iterator[None]:
    """Send metrics every OTEL_METRIC_EXPORT_INTERVAL, and once more when the block is left.

    Args:
        collector: takes them.
        labels: of every metric: run, step, and shard, rank or node.
        observed: gets a sink for what the step logs, and says how it ended.
    """
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    reader = PeriodicExportingMetricReader(collector.metric_exporter())
    provider = MeterProvider([reader], resource=collector.resource(), shutdown_on_exit=False)
    meter = provider.get_meter("boothline")
    _watch_store(meter, labels)
    _watch_machine(meter, labels)
    if "rank" not in labels:
        observed.sinks.append(TrainingGauges(meter, labels))
    duration = meter.create_gauge("boothline.step.duration", "s", "How long a step took.")
    started = time.monotonic()
    try:
        yield
    finally:
        if "rank" not in labels and "node" not in labels:
            ended = {**labels, "status": observed.status}
            duration.set(time.monotonic() - started, ended)
        collector.close(provider)


class TrainingGauges:
    """Shows the last values that a training logged, and how fast its steps follow.

    Args:
        meter: makes the metrics.
        labels: of each of them.
        clock: seconds.
    """

    def __init__(
        self, meter: "Meter", labels: Labels, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._labels = labels
        self._clock = clock
        self._gauges = {
            name: meter.create_gauge(f"boothline.training.{name}")
            for name in sorted({name for name, _ in _NAMES.values()})
        }
        self._steps = meter.create_gauge("boothline.training.step", "", "Optimizer steps taken.")
        meter.create_observable_gauge(
            "boothline.training.steps_per_second",
            [self._speed],
            description="Optimizer steps a second since the metrics before.",
        )
        self._last: tuple[int, float] | None = None
        self._before: tuple[int, float] | None = None

    def write(self, values: Values) -> None:
        """Keep what a training logged."""
        known = values.metrics.keys() & _NAMES.keys()
        if "instance_loss" not in known:
            return
        for metric in known:
            name, more = _NAMES[metric]
            self._gauges[name].set(values.metrics[metric], {**self._labels, **more})
        self._steps.set(values.step, self._labels)
        self._last = (values.step, self._clock())
        self._before = self._before or self._last

    def close(self, status: CloseStatus) -> None:
        """Keep nothing of it."""

    def _speed(self, options: "CallbackOptions") -> "Iterator[Observation]":
        from opentelemetry.metrics import Observation

        if self._last is None or self._before is None:
            return
        (step, _), (step_before, before) = self._last, self._before
        now = self._clock()
        if now > before:
            yield Observation((step - step_before) / (now - before), self._labels)
        self._before = (step, now)


def _watch_store(meter: "Meter", labels: Labels) -> None:
    """Show what this process asked of the store."""
    from opentelemetry.metrics import Observation

    def of(name: str) -> "Callback":
        def look(options: "CallbackOptions") -> "Iterator[Observation]":
            yield Observation(TRAFFIC.counts()[name], labels)

        return look

    for name, meaning in COUNTED.items():
        short, unit = _STORE.get(name, (name, ""))
        meter.create_observable_counter(f"boothline.store.{short}", [of(name)], unit, meaning)


def _watch_machine(meter: "Meter", labels: Labels) -> None:
    """Show the memory of this process and, unless it is one rank of several, the GPUs."""
    from opentelemetry.metrics import Observation
    from psutil import Process

    def memory(options: "CallbackOptions") -> "Iterator[Observation]":
        yield Observation(Process().memory_info().rss, labels)

    def busy(options: "CallbackOptions") -> "Iterator[Observation]":
        for gpu in gpu_use():
            yield Observation(gpu.percent / 100, {**labels, "gpu": gpu.index})

    def used(options: "CallbackOptions") -> "Iterator[Observation]":
        for gpu in gpu_use():
            yield Observation(gpu.used_bytes, {**labels, "gpu": gpu.index})

    meter.create_observable_gauge("boothline.process.memory", [memory], "By", "Resident memory.")
    if "rank" in labels:
        return
    meter.create_observable_gauge(
        "boothline.gpu.utilization", [busy], "1", "Share of the last second in which it worked."
    )
    meter.create_observable_gauge("boothline.gpu.memory.used", [used], "By", "Memory in use.")
