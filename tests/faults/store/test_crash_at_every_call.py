"""A process that ends at any call of the store loses nothing: what it resumes to is the same."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from runner_programs import ask
from tiny_jobs import training_job

from boothline.settings import Settings

pytestmark = pytest.mark.services

Note = Callable[[str, str], None]


@pytest.mark.parametrize(
    ("stride", "num_crashes"), [(5, 6), pytest.param(1, 30, marks=pytest.mark.faults)]
)
def test_crash_at_every_call_of_a_small_job_resumes_to_the_same(
    store_settings: Settings, tmp_path: Path, measured: Note, stride: int, num_crashes: int
) -> None:
    result = ask(
        "crash_runner", store_settings, folder=str(tmp_path), workload="store", stride=stride
    )
    assert result["failures"] == []
    assert result["num_crashes"] > num_crashes
    if stride == 1:
        measured(
            "crash at the n-th call",
            f"store workload: {result['num_resumed']} of {result['num_crashes']} calls resume",
        )


@pytest.mark.faults
def test_crash_at_every_call_of_a_training_resumes_to_the_same_weights(
    store_settings: Settings, tmp_path: Path, tiny_pipeline: Path, measured: Note
) -> None:
    stride = int(os.environ.get("BOOTHLINE_CRASH_STRIDE", "1"))
    job = training_job(tmp_path / "data", tiny_pipeline)
    result = ask(
        "crash_runner", store_settings, folder=str(tmp_path / "runs"), workload="training",
        stride=stride, job=job,
    )  # fmt: skip
    assert result["failures"] == []
    assert result["num_crashes"] >= 30 // stride
    measured(
        "crash at the n-th call",
        f"training: {result['num_resumed']} of {result['num_crashes']} crashes (every {stride}."
        " call) resume to equal sha256, none torn",
    )
