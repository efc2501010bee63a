"""What a server shows Prometheus: requests, latency, queue, swaps, the version that answers."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from boothline.metering import gpu_use
from boothline.store.transfers import COUNTED, TRAFFIC

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from boothline.registry.loaded import LoadedModel

_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)


class Served(Protocol):
    """A model that answers; see `boothline.launch.serve.Followed`."""

    swaps: dict[str, int]

    @property
    def model(self) -> "LoadedModel":
        """The version that answers now."""


class Waiting(Protocol):
    """Requests that wait; see `boothline.launch.serve.Queue`."""

    limit: int
    depth: int


@dataclass
class Request:
    """A request that is being answered.

    Attributes:
        outcome: what becomes of it.
        digest: of the model that answers it.
    """

    digest: str
    outcome: Literal["drawn", "invalid", "full", "failed"] = "failed"


class ServeMetrics:
    """The metrics of one server, in a registry of its own.

    Args:
        served: the model.
        waiting: the queue.

    Raises:
        ImportError: the extra `serve` is missing.
    """

    def __init__(self, served: Served, waiting: Waiting) -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

        self._served = served
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "boothline_serve_requests",
            "Requests for a picture: drawn, invalid, full (429) or failed.",
            ("outcome", "digest"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "boothline_serve_request_seconds",
            "From the arrival of a request to its picture, the time in the queue included.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)
        self.registry.register(_AtScrape(served, waiting))

    @contextmanager
    def request(self) -> Iterator[Request]:
        """Count a request that is answered inside; the latency is that of drawn pictures."""
        started = time.monotonic()
        request = Request(self._served.model.version.digest)
        try:
            yield request
        finally:
            self._requests.labels(request.outcome, request.digest).inc()
            if request.outcome == "drawn":
                self._seconds.observe(time.monotonic() - started)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics, and the media type that they are in.

        Args:
            accept: the Accept header of the scraper.
        """
        from prometheus_client.exposition import choose_encoder

        encode, media_type = choose_encoder(accept)
        return encode(self.registry), media_type


class _AtScrape:
    """Collects at each scrape what is kept elsewhere."""

    def __init__(self, served: Served, waiting: Waiting) -> None:
        self._served = served
        self._waiting = waiting

    def collect(self) -> "Iterator[Metric]":
        """Yield the metrics of the server, of the store and of the GPUs."""
        version = self._served.model.version
        facts = {"name": version.name, "version": str(version.version), "digest": version.digest}
        yield _gauge("serve_model_info", "1, with the version that answers.", (facts, 1))
        depth, limit = self._waiting.depth, self._waiting.limit
        yield _gauge("serve_queue_depth", "Requests that wait or are answered.", ({}, depth))
        yield _gauge("serve_queue_limit", "How many of them there may be.", ({}, limit))
        yield _counter(
            "serve_swaps",
            "Looks at the alias that found another version (swapped), and those that failed.",
            *(({"result": result}, count) for result, count in self._served.swaps.items()),
        )
        for name, count in TRAFFIC.counts().items():
            yield _counter(f"store_{name}", COUNTED[name], ({}, count))
        gpus = [({"gpu": str(gpu.index)}, gpu) for gpu in gpu_use()]
        yield _gauge(
            "gpu_utilization_ratio",
            "Share of the last second in which the GPU worked.",
            *((labels, gpu.percent / 100) for labels, gpu in gpus),
        )
        yield _gauge(
            "gpu_memory_used_bytes",
            "Memory of the GPU in use.",
            *((labels, gpu.used_bytes) for labels, gpu in gpus),
        )


Sample = tuple[Mapping[str, str], float]


def _gauge(name: str, meaning: str, *samples: Sample) -> "Metric":
    """Return a gauge with its values by labels."""
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(
        f"boothline_{name}", meaning, labels=list(samples[0][0]) if samples else []
    )
    for labels, value in samples:
        family.add_metric(list(labels.values()), value)
    return family


def _counter(name: str, meaning: str, *samples: Sample) -> "Metric":
    """Return a counter with its values by labels."""
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(f"boothline_{name}", meaning, labels=list(samples[0][0]))
    for labels, value in samples:
        family.add_metric(list(labels.values()), value)
    return family
