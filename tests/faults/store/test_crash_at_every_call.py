"""A process that ends at any call of the store loses nothing: what it resumes to is the same."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from tiny_jobs import training_job

from boothline.settings import Settings

pytestmark = pytest.mark.services

RUNNER = Path(__file__).resolve().parents[1] / "crash_runner.py"
Note = Callable[[str, str], None]


def crash(settings: Settings, folder: Path, **request: Any) -> dict[str, Any]:
    """Run the crash runner; the request goes through a pipe, since it holds the secret key."""
    plain = json.loads(settings.model_dump_json())
    for name, value in settings:
        if isinstance(value, SecretStr):
            plain[name] = value.get_secret_value()
    answer = subprocess.run(
        [sys.executable, str(RUNNER)],
        input=json.dumps({"settings": plain, "folder": str(folder), **request}),
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    return dict(json.loads(answer.stdout))


@pytest.mark.parametrize(
    ("stride", "num_crashes"), [(5, 6), pytest.param(1, 30, marks=pytest.mark.faults)]
)
def test_crash_at_every_call_of_a_small_job_resumes_to_the_same(
    store_settings: Settings, tmp_path: Path, measured: Note, stride: int, num_crashes: int
) -> None:
    result = crash(store_settings, tmp_path, workload="store", stride=stride)
    assert result["failures"] == []
    assert result["num_crashes"] > num_crashes
    if stride == 1:
        measured(
            "crash at the n-th call",
            f"store workload: {result['num_crashes']} of {result['num_crashes']} calls resume,"
            " 0 torn",
        )


@pytest.mark.faults
def test_crash_at_every_call_of_a_training_resumes_to_the_same_weights(
    store_settings: Settings, tmp_path: Path, tiny_pipeline: Path, measured: Note
) -> None:
    stride = int(os.environ.get("BOOTHLINE_CRASH_STRIDE", "1"))
    job = training_job(tmp_path / "data", tiny_pipeline)
    result = crash(store_settings, tmp_path / "runs", workload="training", stride=stride, job=job)
    assert result["failures"] == []
    assert result["num_crashes"] >= 30 // stride
    measured(
        "crash at the n-th call",
        f"training: {result['num_crashes']} of {result['num_crashes']} crashes (every"
        f" {stride}. call) resume to equal sha256, 0 torn",
    )
