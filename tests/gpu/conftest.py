"""One GPU, or the CPU in its place: `BOOTHLINE_GPU_TESTS_ON=cpu` runs the same bodies there.

On the CPU what only CUDA has is a stand-in, which each test names; what cannot stand in skips.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_jobs import training_job

from boothline.settings import Settings
from boothline.training.job import TrainingJob

DEVICE = os.environ.get("BOOTHLINE_GPU_TESTS_ON", "cuda")
JobMaker = Callable[..., TrainingJob]
Runner = Callable[..., dict[str, Any]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, so that they are selected only where a GPU is meant."""
    for item in items:
        if DEVICE == "cuda" and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(autouse=True)
def device() -> torch.device:
    """The device of the test; skips where CUDA is asked for and there is none."""
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device, and torch finds none")
    return torch.device(DEVICE)


@pytest.fixture
def on_cpu(device: torch.device) -> bool:
    """Whether the CPU stands in for the GPU."""
    return device.type == "cpu"


@pytest.fixture
def make_job(tmp_path: Path, tiny_pipeline: Path) -> JobMaker:
    """Return a maker of jobs of one rank; equal states are shared, each job has its own folder."""
    described = training_job(tmp_path / "data", tiny_pipeline)
    count = 0

    def make(states: str = "training/job", **training: Any) -> TrainingJob:
        nonlocal count
        count += 1
        folder = tmp_path / f"job-{count}"
        folder.mkdir()
        settings = {**described["config"]["training"], **training}
        config = {**described["config"], "training": settings}
        values = {**described, "config": config, "states": states, "folder": str(folder)}
        return TrainingJob.model_validate(values)

    return make


@pytest.fixture
def run_here(store_settings: Settings) -> Runner:
    """Return a function that trains a job as one rank in this process and returns its result."""

    def run(job: TrainingJob, requests: Any = None) -> dict[str, Any]:
        from accelerate.state import AcceleratorState

        from boothline.training.ranks import Requests
        from boothline.training.worker import run_rank

        AcceleratorState._reset_state(reset_partial_state=True)
        run_rank(job, settings=store_settings, requests=requests or Requests())
        return dict(json.loads((job.folder / "result.json").read_text()))

    return run
