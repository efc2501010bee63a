"""What a step or a rank reports of itself while it works, and how it ended."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from boothline.errors import BoothlineError
from boothline.settings import TelemetrySettings
from boothline.tracking.base import Sink

logger = logging.getLogger(__name__)


@dataclass
class Observed:
    """A step that is observed, or one that is not.

    Attributes:
        key: the step's key, once it is known.
        reused: whether its result was there already.
        failure: why it failed; empty while it has not.
        sinks: take what the step logs.
    """

    key: str = ""
    reused: bool = False
    failure: str = ""
    sinks: list[Sink] = field(default_factory=list)

    @property
    def status(self) -> str:
        """How it ended: done, reused or failed."""
        if self.failure:
            return "failed"
        return "reused" if self.reused else "done"


@contextmanager
def observing(
    *,
    run_id: str,
    step: str,
    shard: int | None = None,
    rank: int | None = None,
    node: int | None = None,
) -> Iterator[Observed]:
    """Send metrics, and of a step a span, as the environment says; nothing by default.

    What cannot be sent is one warning, and changes nothing. The exception that ends the block is
    the step's failure, unless it has named one.

    Args:
        run_id: the pipeline run.
        step: the step.
        shard: its shard or trial.
        rank: number of the rank, in a process of a training.
        node: number of the node, in the pod of a TrainJob.
    """
    observed = Observed()
    numbers = {"shard": shard, "rank": rank, "node": node}
    known = {name: number for name, number in numbers.items() if number is not None}
    with ExitStack() as ending:
        try:
            _start(observed, ending, {"run": run_id, "step": step, **known})
        except ImportError as error:
            logger.warning(
                "OTEL_EXPORTER_OTLP_ENDPOINT is set, and nothing is sent (%s): install "
                "boothline[observability]",
                error,
            )
        except ValueError as error:
            logger.warning("a variable OTEL_... is invalid, and not all is sent: %s", error)
        try:
            yield observed
        except BaseException as error:
            kind = type(error).__name__
            said = error.message if isinstance(error, BoothlineError) else str(error)
            observed.failure = observed.failure or f"{kind}: {said}"
            raise


def _start(observed: Observed, ending: ExitStack, labels: Mapping[str, str | int]) -> None:
    """Enter what sends traces and metrics, where they are wanted.

    Args:
        observed: the step.
        ending: is entered.
        labels: run and step, and shard, rank or node.

    Raises:
        ImportError: the extra `observability` is missing.
        ValueError: a variable of OpenTelemetry is invalid.
    """
    settings = TelemetrySettings()
    is_step = not {"rank", "node"} & labels.keys()
    if not (settings.sends_metrics or (settings.sends_traces and is_step)):
        return
    from boothline.telemetry.export import Collector
    from boothline.telemetry.meters import metered
    from boothline.telemetry.spans import step_span

    instance = "/".join(f"{name}={value}" for name, value in labels.items())
    collector = Collector(settings, instance=instance)
    if settings.sends_metrics:
        ending.enter_context(metered(collector, labels, observed))
    if settings.sends_traces and is_step:
        ending.enter_context(step_span(collector, labels, observed))
