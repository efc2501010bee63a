"""The demo's pipeline in our images: every step leaves its manifest, a second run reuses them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.local.containers import NOBODY

pytestmark = pytest.mark.containers

ROOT = Path(__file__).resolve().parents[2]
# Every step runs, the gate lets the model through; the pictures are not looked at.
SMALL = (
    "training.num_steps=4",
    "training.batch_size=2",
    "training.sample_every_steps=0",
    "prior.num_images=4",
    "prior.num_shards=2",
    "evaluation.images_per_prompt=1",
    "evaluation.sampling.num_steps=2",
    "inference.num_shards=1",
    "inference.sampling.num_steps=2",
    "promotion.margins.min_subject_gain=-2",
    "promotion.margins.max_prompt_loss=2",
)
STEPS = {
    *("validate_data", "generate_prior", "train", "publish_checkpoint"),
    *("evaluate", "promote", "batch_infer", "finish_run"),
}


def run(home: Path) -> dict[str, object]:
    """Run the demo with a small configuration in containers and return its summary."""
    settings = [part for setting in SMALL for part in ("--set", setting)]
    command = [sys.executable, "-m", "pipelines.cli.app", "run", "examples/demo.yaml"]
    done = subprocess.run(
        [*command, *settings, "--profile", "containers", "--home", home, "--output", "json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    summary: dict[str, object] = json.loads(done.stdout)
    return summary


def test_demo_runs_in_the_images_and_is_reused(tmp_path: Path) -> None:
    from boothline import services

    try:
        first = run(tmp_path)
        assert first["status"] == "done"
        steps = first["steps"]
        assert isinstance(steps, list)
        assert {step["name"].partition("-")[0] for step in steps} >= STEPS
        assert all(step["manifest"] for step in steps)
        folder = tmp_path / "runs" / str(first["run_id"])
        for step in steps:
            assert (folder / "logs" / f"{step['name']}.log").stat().st_size
            events = folder / "events" / f"{step['name']}.jsonl"
            assert events.stat().st_uid == (os.getuid() or NOBODY)
        again = run(tmp_path)["steps"]
        assert isinstance(again, list)
        assert all(step["reused"] for step in again if step["name"] != "finish_run")
    finally:
        services.stop(tmp_path)
