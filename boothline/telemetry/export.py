"""How traces and metrics leave: by OTLP over HTTP, with one warning while nobody takes them."""

import logging
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boothline
from boothline.settings import TelemetrySettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricExporter, MetricsData
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 3.0
"""For one export, where no OTEL_EXPORTER_OTLP_TIMEOUT is set: a step waits for the last one."""
_LOOK_SECONDS = 0.5


class Collector:
    """What takes traces and metrics, and whether it does.

    Args:
        settings: where it is.
        instance: name of this process, unique among those that report.
    """

    def __init__(self, settings: TelemetrySettings, *, instance: str) -> None:
        self._settings = settings
        self._instance = instance
        self._is_away = False
        # They would say it of each attempt, and of a broken one with a traceback.
        for name in ("opentelemetry.exporter", "opentelemetry.sdk"):
            logging.getLogger(name).setLevel(logging.CRITICAL)

    def resource(self) -> "Resource":
        """Return what all that is sent says of this process; the environment wins."""
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource

        own = {
            "service.name": "boothline",
            "service.version": boothline.__version__,
            "service.instance.id": self._instance,
        }
        return Resource(own).merge(OTELResourceDetector().detect())

    def span_exporter(self) -> "SpanExporter":
        """Return an exporter of spans that warns once."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import SpanExportResult

        collector = self

        class Spans(OTLPSpanExporter):
            def export(self, spans: "Sequence[ReadableSpan]") -> SpanExportResult:
                if not collector.may_answer(self._endpoint):
                    return SpanExportResult.FAILURE
                result = super().export(spans)
                collector.note(self._endpoint, taken=result is SpanExportResult.SUCCESS)
                return result

        return Spans(timeout=self._settings.timeout(PATIENCE_SECONDS, "traces"))

    def metric_exporter(self) -> "MetricExporter":
        """Return an exporter of metrics that warns once."""
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.sdk.metrics.export import MetricExportResult

        collector = self

        class Metrics(OTLPMetricExporter):
            def export(
                self,
                metrics_data: "MetricsData",
                timeout_millis: float | None = 10_000,
                **more: object,
            ) -> MetricExportResult:
                if not collector.may_answer(self._endpoint):
                    return MetricExportResult.FAILURE
                result = super().export(metrics_data, timeout_millis, **more)
                collector.note(self._endpoint, taken=result is MetricExportResult.SUCCESS)
                return result

        return Metrics(timeout=self._settings.timeout(PATIENCE_SECONDS, "metrics"))

    def close(self, provider: "MeterProvider | TracerProvider") -> None:
        """Send what is left; a step may not fail for what that raises."""
        try:
            provider.shutdown()
        except Exception as error:  # noqa: BLE001 - the SDK raises Exception itself
            logger.warning("traces or metrics may be missing: %s", error)

    def may_answer(self, endpoint: str) -> bool:
        """Return whether an attempt is worth its patience: after a failure only if one connects."""
        if not self._is_away:
            return True
        url = urlsplit(endpoint)
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            socket.create_connection((url.hostname or "", port), timeout=_LOOK_SECONDS).close()
        except OSError:
            return False
        return True

    def note(self, endpoint: str, *, taken: bool) -> None:
        """Note whether an export was taken; the first that was not is a warning."""
        if not taken and not self._is_away:
            url = urlsplit(endpoint)
            logger.warning(
                "%s://%s%s does not take traces or metrics; the run continues without them",
                url.scheme,
                url.netloc.rpartition("@")[2],
                url.path,
            )
        self._is_away = self._is_away or not taken
