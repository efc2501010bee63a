"""Losses of every step, agreed on by all ranks one step late; the curve; the event file."""

import json
import math
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from boothline.errors import NonFiniteLossError
from boothline.training.ranks import Ranks, Requests


def peak_memory_bytes(device: torch.device) -> int:
    """Return the highest memory use so far: of a CUDA device what torch reserved on it, else RSS.

    Args:
        device: what the process trains on.
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


_NOT_IN_THE_CURVE = frozenset({"seconds", "stop", "save"})


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """One optimizer step as all ranks see it.

    Attributes:
        step: optimizer steps taken, so 1 for the first.
        instance_loss: mean over the instance half of the global batch.
        prior_loss: mean over the prior half, unweighted; 0 without prior.
        learning_rate: of the UNet.
        grad_norm: norm of the gradient before clipping.
        seconds: what the step took on this rank, without the sheets and states after it.
        stop: some rank was asked to stop.
        save: some rank was asked to save.
    """

    step: int
    instance_loss: float
    prior_loss: float
    learning_rate: float
    grad_norm: float
    seconds: float
    stop: bool = False
    save: bool = False

    @property
    def row(self) -> dict[str, float]:
        """The step's row of the curve."""
        values = asdict(self)
        return {name: values[name] for name in values if name not in _NOT_IN_THE_CURVE}


@dataclass(frozen=True, kw_only=True)
class _Posted:
    step: int
    learning_rate: float
    values: torch.Tensor
    began: float | torch.cuda.Event
    ended: float | torch.cuda.Event

    def seconds(self) -> float:
        """Wait until the values have arrived and return how long the step took."""
        if isinstance(self.began, torch.cuda.Event) and isinstance(self.ended, torch.cuda.Event):
            self.ended.synchronize()
            return float(self.began.elapsed_time(self.ended)) / 1000
        assert isinstance(self.began, float)  # noqa: S101 - a fact for the type checker
        assert isinstance(self.ended, float)  # noqa: S101
        return self.ended - self.began


class Exchange:
    """Sums what the ranks post after each step, when the next step is done.

    The delay lets the copy from the device finish by itself, so no step waits for it.

    Args:
        ranks: who takes part.
        half_size: size of one half of the global batch.
        requests: what this rank was asked for.
        scaled: a loss scaler skips the steps whose gradient is not finite, which are then no error.
        clock: seconds; an accelerator's own clock is used instead where there is one.
    """

    def __init__(
        self,
        *,
        ranks: Ranks,
        half_size: int,
        requests: Requests,
        scaled: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ranks = ranks
        self._clock = clock
        self._began = self._moment()
        self._half_size = half_size
        self._requests = requests
        self._scaled = scaled
        self._posted: _Posted | None = None

    def begin(self) -> None:
        """Note that a step begins now."""
        self._began = self._moment()

    def post(
        self, step: int, *, sums: torch.Tensor, grad_norm: torch.Tensor, learning_rate: float
    ) -> None:
        """Hand in this rank's sums of a step.

        Args:
            step: optimizer steps taken.
            sums: float64 (2,): loss sums over this rank's instance and prior samples.
            grad_norm: norm of the synchronised gradient, a scalar.
            learning_rate: of the UNet.
        """
        values = torch.cat([sums, grad_norm.detach().double().reshape(1)])
        values = values.to("cpu", non_blocking=True)
        self._posted = _Posted(
            step=step,
            learning_rate=learning_rate,
            values=values,
            began=self._began,
            ended=self._moment(),
        )

    def collect(self) -> StepReport | None:
        """Return the report of the step posted last, once; every rank must call it.

        Raises:
            NonFiniteLossError: the loss or gradient of the step is NaN or infinite on some rank;
                of a gradient, the step's weights are corrupted already, and no state may hold them.
        """
        posted, self._posted = self._posted, None
        if posted is None:
            return None
        seconds = posted.seconds()
        asked = torch.tensor([self._requests.stop, self._requests.take_save()], dtype=torch.float64)
        instance, prior, norm, stop, save = self._ranks.sum(
            torch.cat([posted.values, asked])
        ).tolist()
        report = StepReport(
            step=posted.step,
            instance_loss=instance / self._half_size,
            prior_loss=prior / self._half_size,
            learning_rate=posted.learning_rate,
            grad_norm=norm / self._ranks.world_size,
            seconds=seconds,
            stop=stop > 0,
            save=save > 0,
        )
        _check_finite(report, gradient=not self._scaled)
        return report

    def _moment(self) -> float | torch.cuda.Event:
        """Return now: by the clock, or in the order of the accelerator's work."""
        if self._ranks.device.type != "cuda":
            return self._clock()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event


def _check_finite(report: StepReport, *, gradient: bool) -> None:
    """Raise where a loss, or with `gradient` the gradient, is not a finite number."""
    if not (math.isfinite(report.instance_loss) and math.isfinite(report.prior_loss)):
        what = f"loss became {report.instance_loss} (instance) and {report.prior_loss} (prior)"
    elif gradient and not math.isfinite(report.grad_norm):
        what = f"norm of the gradient became {report.grad_norm}"
    else:
        return
    raise NonFiniteLossError(
        f"The {what} in step {report.step}; all ranks stopped, the last training state is kept.",
        remedy="Lower training.learning_rate or lengthen training.warmup_steps; with bf16 or "
        "fp16, try training.precision=fp32.",
    )


class EventLog:
    """Appends what rank 0 reports to the job's event file, one JSON object a line.

    Args:
        path: the file.
        images_per_step: pictures of both halves in one global batch.
    """

    def __init__(self, path: Path, *, images_per_step: int) -> None:
        self._path = path
        self._images_per_step = images_per_step

    def write(self, event: str, values: Mapping[str, object]) -> None:
        """Append one event."""
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"event": event, **values}) + "\n")

    def step(self, report: StepReport) -> None:
        """Append the report of a step with its speed."""
        speed = {"images_per_second": self._images_per_step / max(report.seconds, 1e-9)}
        self.write("step", {**report.row, **speed})
