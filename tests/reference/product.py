"""Runs the product's own training (`worker.run_rank`) in float64 and takes what it would commit.

Everything is the product's, but for two things: states stay in a folder instead of a store, and
numbers are float64. The product computes in float32; so that a missing term cannot hide in the
rounding, its networks, its draws and its casts to float32 are all made float64 here, and nothing
else: the results then agree to 1e-6 of the way that the weights went, or a formula is wrong.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from reference.inputs import Tensors
from reference.training import ReferenceTraining
from safetensors.torch import load_file

from boothline.diffusion import counters, loading
from boothline.settings import Settings
from boothline.store import ManifestRef
from boothline.training import worker
from boothline.training.job import TrainingJob
from boothline.training.ranks import Requests
from boothline.training.states import Snapshot
from boothline.warm import Warm

PROGRAM = "reference.ranks_program"


class FolderStates:
    """The states of a training that has no store: each in a folder of the job's own."""

    def __init__(self, store: object, *, job: TrainingJob) -> None:
        self._folder = job.folder / "states"

    def newest(self) -> None:
        """There is no state to resume from."""

    def commit_later(self, snapshot: Snapshot, *, keep: int | None = None) -> None:
        snapshot.draft(self._folder / f"{snapshot.step}")

    def wait(self) -> ManifestRef | None:
        return None

    def close(self) -> None:
        """Nothing is under way."""


class NoStore:
    """Where a store would be connected to."""

    @staticmethod
    def connect(settings: Settings) -> None:
        """Connect to nothing."""


@contextmanager
def without_store() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "StateStore", FolderStates)
        patch.setattr(worker, "Store", NoStore)
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Larger teams of threads wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def in_float64() -> Iterator[None]:
    """Make the networks, the normal draws and every cast to float32 inside the block float64."""
    load, normal = loading._load, counters.normal
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "_load", lambda *arguments: load(*arguments).double())
        patch.setattr(counters, "normal", lambda *shape, **name: normal(*shape, **name).double())
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        with one_thread():
            yield


def run_one_rank(job: TrainingJob) -> None:
    """Train in this process."""
    AcceleratorState._reset_state()
    with without_store(), one_thread():
        worker.run_rank(job, settings=Settings(), requests=Requests())


def run_ranks(job: TrainingJob, warm: Warm | None) -> None:
    """Train in as many processes as the job has ranks, by the product's own agent, over gloo."""
    tests = str(Path(__file__).parents[1])
    paths = [tests, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with (job.folder / "ranks.log").open("w+b") as log:
        arguments = [str(job.save())]
        if warm is not None:
            code = warm.start(PROGRAM, arguments, env=env, output=log.fileno()).wait()
        else:
            command = [sys.executable, "-m", PROGRAM, *arguments]
            code = subprocess.call(command, env=env, stdout=log, stderr=log)
        log.seek(0)
        assert code == 0, log.read()[-3000:].decode()


def trained(job: TrainingJob) -> tuple[Tensors, Tensors]:
    """Return weights and averages of the last state by `<network>.<name>`."""
    folder = job.folder / "states" / f"{job.config.training.num_steps}"
    weights = {
        f"{network}.{name}": tensor
        for network in ("unet", "text_encoder", "token_embedding")
        for file in (f"{network}.safetensors", f"{network}_lora.safetensors")
        if (folder / file).exists()
        for name, tensor in load_file(folder / file).items()
    }
    average = folder / "ema.safetensors"
    return weights, load_file(average) if average.exists() else {}


def settings_of(job: TrainingJob) -> dict[str, Any]:
    """Return what the reference is told of a job: its settings, as they stand in the file."""
    config = job.config.model_dump(mode="json")
    buckets = config["subject"]["aspect_buckets"]
    side = config["subject"]["resolution_px"]
    subjects = config["subjects"] or [config["subject"]]
    learnt = config["training"]["token_embedding"]
    return {
        "training": config["training"],
        "phrases": [f"{one['identifier']} {one['class_noun']}" for one in subjects],
        "tokens": {
            one["identifier"]: learnt["init_word"] or one["class_noun"]
            for one in subjects
            if learnt["enabled"]
        },
        "sizes": [tuple(map(int, b.split("x"))) for b in buckets] or [(side, side)],
        "prior_weight": config["prior"]["weight"],
    }


def reference_of(job: TrainingJob) -> ReferenceTraining:
    """Return the reference of a job."""
    return ReferenceTraining(
        base=job.base_model,
        pictures=[(one.instance, next(iter(one.priors), None)) for one in job.pictures],
        settings=settings_of(job),
    )
