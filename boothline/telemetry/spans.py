"""Spans: a trace for each run, whose id follows from the run's, and in it a span for each step.

The steps of a run are processes that know nothing of each other but the run's id: from it each
makes the ids of the trace and of the run's own span, which `finish_run` sends at the end.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from boothline.runs import trial_of
from boothline.settings import TelemetrySettings

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

    from boothline.telemetry.export import Collector
    from boothline.telemetry.observing import Observed

_BILLION = 10**9


def trace_id_of(run_id: str) -> int:
    """Return the id of a run's trace, 128 bits; that of a trial is its sweep's."""
    return _digest(f"trace {_whole(run_id)}", num_bytes=16)


def run_span_id_of(run_id: str) -> int:
    """Return the id of the span that stands for a run, 64 bits."""
    return _digest(f"run {_whole(run_id)}", num_bytes=8)


@contextmanager
def step_span(
    collector: "Collector", attributes: Mapping[str, str | int], observed: "Observed"
) -> Iterator[None]:
    """Send the span of a step when the block is left.

    Args:
        collector: takes it.
        attributes: run, step and shard.
        observed: says how the step ended.
    """
    from opentelemetry.trace import Status, StatusCode

    provider, tracer = _tracer(collector)
    run_id, step = str(attributes["run"]), str(attributes["step"])
    span = tracer.start_span(step, context=_below(run_id), attributes=dict(attributes))
    try:
        yield
    finally:
        span.set_attributes({"key": observed.key, "reused": observed.reused})
        if observed.failure:
            span.set_attribute("failure", observed.failure)
            span.set_status(Status(StatusCode.ERROR, observed.failure))
        span.end()
        collector.close(provider)


def report_run(run_id: str, *, pipeline: str, status: str, started_at: float) -> None:
    """Send the span of a whole run, where traces are wanted.

    A run that is resumed sends it again, with the same ids and a later end.

    Args:
        run_id: the run.
        pipeline: its pipeline.
        status: how it ended.
        started_at: seconds since the epoch; it ends now.
    """
    if not TelemetrySettings().sends_traces:
        return
    try:
        from opentelemetry.trace import Status, StatusCode

        from boothline.telemetry.export import Collector
    except ImportError:  # the step has said so
        return
    collector = Collector(TelemetrySettings(), instance=f"{run_id}-finish_run")
    provider, tracer = _tracer(collector, run_id=run_id)
    span = tracer.start_span(
        pipeline,
        start_time=int(started_at * _BILLION),
        attributes={"run": run_id, "pipeline": pipeline, "status": status},
    )
    if status in ("failed", "interrupted"):
        span.set_status(Status(StatusCode.ERROR, status))
    span.end()
    collector.close(provider)


def _tracer(collector: "Collector", *, run_id: str = "") -> "tuple[TracerProvider, Tracer]":
    """Return a tracer that sends each span as it ends.

    Args:
        collector: takes them.
        run_id: make the ids of this run's own span; empty: any.
    """
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class OfRun(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            return trace_id_of(run_id)

        def generate_span_id(self) -> int:
            return run_span_id_of(run_id)

    ids = OfRun() if run_id else RandomIdGenerator()
    provider = TracerProvider(resource=collector.resource(), id_generator=ids)
    provider.add_span_processor(SimpleSpanProcessor(collector.span_exporter()))
    return provider, provider.get_tracer("boothline")


def _below(run_id: str) -> "Context":
    """Return a context whose current span is the run's."""
    from opentelemetry.trace import (
        NonRecordingSpan,
        SpanContext,
        TraceFlags,
        set_span_in_context,
    )

    above = SpanContext(
        trace_id_of(run_id),
        run_span_id_of(run_id),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )
    return set_span_in_context(NonRecordingSpan(above))


def _whole(run_id: str) -> str:
    """Return the run that a run belongs to: the sweep of a trial, or itself."""
    trial = trial_of(run_id)
    return trial[0] if trial else run_id


def _digest(text: str, *, num_bytes: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:num_bytes], "big")
