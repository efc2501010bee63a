"""A collector on loopback that takes OTLP over HTTP and keeps what it is sent, decoded."""

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from google.protobuf.message import Message
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

Point = tuple[str, dict[str, object], float]


def values_of(attributes: Any) -> dict[str, object]:
    """Return attributes by name."""

    def value(item: KeyValue) -> object:
        return getattr(item.value, item.value.WhichOneof("value"))

    return {item.key: value(item) for item in attributes}


class Receiver:
    """Takes spans and metrics until the block is left.

    Attributes:
        url: what OTEL_EXPORTER_OTLP_ENDPOINT is set to.
        resources: what each export said of its process.
        num_requests: exports that came.
    """

    def __init__(self) -> None:
        self._traces: list[ExportTraceServiceRequest] = []
        self._metrics: list[ExportMetricsServiceRequest] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.headers["Content-Type"] == "application/x-protobuf"
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                answer = receiver._take(self.path, body).SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _take(self, path: str, body: bytes) -> Message:
        if path == "/v1/traces":
            self._traces.append(ExportTraceServiceRequest.FromString(body))
            return ExportTraceServiceResponse()
        assert path == "/v1/metrics"
        self._metrics.append(ExportMetricsServiceRequest.FromString(body))
        return ExportMetricsServiceResponse()

    @property
    def num_requests(self) -> int:
        return len(self._traces) + len(self._metrics)

    @property
    def resources(self) -> list[dict[str, object]]:
        groups = [g for request in self._traces for g in request.resource_spans]
        groups += [g for request in self._metrics for g in request.resource_metrics]
        return [values_of(group.resource.attributes) for group in groups]

    @property
    def spans(self) -> list[Span]:
        """The spans, in the order in which they came."""
        return [
            span
            for request in self._traces
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]

    @property
    def points(self) -> list[Point]:
        """Name, unit aside, labels and value of each point of a metric, as they came."""
        return [
            (metric.name, values_of(point.attributes), point.as_int or point.as_double)
            for metric in self.metrics
            for point in getattr(metric, metric.WhichOneof("data")).data_points
        ]

    @property
    def metrics(self) -> list[Any]:
        """The metrics as they came."""
        return [
            metric
            for request in self._metrics
            for group in request.resource_metrics
            for scope in group.scope_metrics
            for metric in scope.metrics
        ]
