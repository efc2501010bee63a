"""The demo's pipeline in our images: every step leaves its manifest, a second run reuses them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.containers

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "training.num_steps=4",
    "training.batch_size=2",
    "training.sample_every_steps=0",
    "prior.num_images=4",
    "prior.num_shards=1",
    "evaluation.images_per_prompt=1",
    "evaluation.sampling.num_steps=2",
    "promotion.enabled=false",
)


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
        assert first["status"] in ("done", "refused")
        steps = first["steps"]
        assert isinstance(steps, list)
        assert all(step["manifest"] for step in steps)
        again = run(tmp_path)["steps"]
        assert isinstance(again, list)
        assert all(step["reused"] for step in again if step["name"] != "finish_run")
    finally:
        services.stop(tmp_path)
