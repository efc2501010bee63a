"""The programs that `make bench-gpu` starts, one for each thing that it measures.

    python -m benchmarks.gpu_sides ROLE TASK CONNECTION

TASK is a `GpuTask` as JSON; figures go through the connection (`benchmarks.turns`). A program
works until it is ended, so that what it needs at its end is no part of what is measured.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import BaseModel, ConfigDict

from benchmarks.gpu_cases import Case, cases, job_of, peer_arguments, peer_script
from benchmarks.random_models import Size, make_model
from benchmarks.training_task import CLASS_PROMPT, as_options
from benchmarks.turns import Turns, connection_of
from boothline.config.sampling import SamplingConfig
from boothline.training.ranks import Ranks, Requests

_CEILING_SECONDS: Final = 1.0
_SIDES: Final[Mapping[str, tuple[int, ...]]] = {"full": (4096, 8192, 16384), "toy": (64, 128)}


class GpuTask(BaseModel):
    """What a program works on.

    Attributes:
        size: of the models.
        key: which model; empty: none.
        scratch: folder with `model-KEY`, and pictures in `pictures-KEY` for each side; receives
            files.
        checkout: of diffusers; None: none is needed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: Size
    key: str = ""
    scratch: Path
    checkout: Path | None = None

    @property
    def case(self) -> Case:
        """The training."""
        (found,) = (case for case in cases(self.size) if case.key == self.key)
        return found

    @property
    def model(self) -> Path:
        """The model's folder."""
        return self.scratch / f"model-{self.key}"

    @property
    def job(self) -> Path:
        """The folder of our training."""
        return self.scratch / f"job-{self.key}"

    def pictures(self, side: str) -> Path:
        """Return the folder of a side's pictures."""
        return self.scratch / f"pictures-{self.key}" / side

    @property
    def sampling(self) -> SamplingConfig:
        """How pictures are sampled: in fp16, or in bf16 on a CPU, which has no fp16."""
        return self.case.sampling("fp16" if torch.cuda.is_available() else "bf16")


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def prepare(task: GpuTask, connection: Connection) -> None:
    """Send what the device can do; then make each model that is asked for, and send its size."""
    device = _device()
    connection.send({**ceiling(device, sides=_SIDES[task.size]), **_described(device)})
    while True:
        key = connection.recv()
        wanted = task.model_copy(update={"key": key})
        num_weights = make_model(key, wanted.model, size=task.size, device=device)
        if device.type == "cuda":
            torch.cuda.empty_cache()
        connection.send(num_weights)


def ceiling(device: torch.device, *, sides: Sequence[int]) -> dict[str, float]:
    """Return the highest rate at which a device multiplies square matrices in bf16.

    Args:
        device: what is measured.
        sides: of the matrices.
    """
    from torch.utils.benchmark import Timer

    best = {"flops_per_second": 0.0, "side": 0}
    for side in sides:
        left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in "lr")
        timer = Timer("left @ right", globals={"left": left, "right": right})
        seconds = timer.blocked_autorange(min_run_time=_CEILING_SECONDS).median
        rate = 2 * side**3 / seconds
        if rate > best["flops_per_second"]:
            best = {"flops_per_second": rate, "side": side}
    return best


def _described(device: torch.device) -> dict[str, object]:
    """Return the name and the memory of a device."""
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        return {"device": found.name, "total_bytes": found.total_memory, "torch": torch.__version__}
    import psutil

    total = psutil.virtual_memory().total
    return {"device": "CPU", "total_bytes": total, "torch": torch.__version__}


class TurnsOfSteps(Requests):
    """Lets a training of ours take turns: it asks after every step what is requested of it.

    Args:
        turns: what is called after each step.
    """

    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self._turns = turns

    def take_save(self) -> bool:
        """Take part in the turns; no training state is asked for."""
        self._turns()
        return False


def train_ours(task: GpuTask, connection: Connection) -> None:
    """Train by the product's own loop, without a store for training states."""
    from boothline.training.trainer import Trainer
    from boothline.training.worker import start_accelerator

    turns = Turns(connection, device=_device())
    task.job.mkdir()
    job = job_of(task.case, model=task.model, pictures=task.pictures("ours"), folder=task.job)
    turns.wait()
    accelerator = start_accelerator(job)
    ranks = Ranks.of(accelerator)
    requests = TurnsOfSteps(turns)
    Trainer(job, accelerator=accelerator, ranks=ranks, requests=requests, states=None).run()


def train_peer(task: GpuTask, connection: Connection) -> None:
    """Train by diffusers' script as it is; what it logs after each step says that one is done."""
    from accelerate import Accelerator

    import_module("boothline.diffusion.export")  # the libraries, which take their time
    from benchmarks.peer import run_script

    turns = Turns(connection, device=_device())
    log: Callable[..., None] = Accelerator.log

    @wraps(log)
    def logged(self: Accelerator, *arguments: Any, **named: Any) -> None:  # noqa: ANN401
        log(self, *arguments, **named)
        turns()

    Accelerator.log = logged
    assert task.checkout is not None  # noqa: S101 - a fact for the type checker
    arguments = peer_arguments(
        task.case, model=task.model, pictures=task.pictures("peer"), folder=task.scratch
    )
    turns.wait()
    run_script(str(peer_script(task.case, task.checkout)), as_options(arguments))


def sample_ours(task: GpuTask, connection: Connection) -> None:
    """Sample by the product's own sampler, batch after batch."""
    from boothline.diffusion.loading import load_pipeline
    from boothline.diffusion.sampling import SampleRequest, sample

    turns, side_px, sampling = Turns(connection, device=_device()), task.case.side_px, task.sampling
    turns.wait()
    parts = load_pipeline(task.model, for_sampling=True, precision=sampling.precision)
    requests = [
        SampleRequest(prompt=CLASS_PROMPT, seed=0, index=i, height_px=side_px, width_px=side_px)
        for i in range(sampling.batch_size)
    ]
    while True:
        turns(len(list(sample(parts, requests, sampling=sampling))))


def sample_peer(task: GpuTask, connection: Connection) -> None:
    """Sample by the plain pipeline of diffusers, with our scheduler in it."""
    from diffusers import DiffusionPipeline

    from boothline.diffusion.layout import family_of
    from boothline.diffusion.samplers import make_scheduler

    turns, side_px, sampling = Turns(connection, device=_device()), task.case.side_px, task.sampling
    turns.wait()
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}[sampling.precision]
    plain = DiffusionPipeline.from_pretrained(task.model, torch_dtype=dtype).to(_device())
    plain.scheduler = make_scheduler(family_of(task.model).load_schedule(task.model), sampling)
    plain.set_progress_bar_config(disable=True)
    while True:
        made = plain(
            [CLASS_PROMPT] * sampling.batch_size,
            height=side_px,
            width=side_px,
            num_inference_steps=sampling.num_steps,
            guidance_scale=sampling.guidance_scale,
        )
        turns(len(made.images))


ROLES: Final[Mapping[str, Callable[[GpuTask, Connection], None]]] = {
    "prepare": prepare,
    "train-ours": train_ours,
    "train-peer": train_peer,
    "sample-ours": sample_ours,
    "sample-peer": sample_peer,
}


def main(role: str, task: str, connection: str) -> None:
    """Play a role."""
    ROLES[role](GpuTask.model_validate_json(task), connection_of(connection))


if __name__ == "__main__":
    main(*sys.argv[1:])
