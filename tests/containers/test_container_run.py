"""The demo's pipeline in our images: stopped, gone on with, and each step's result used again."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from boothline.launch.local.containers import NOBODY, RUN_LABEL

pytestmark = pytest.mark.containers

ROOT = Path(__file__).resolve().parents[2]
# Every step runs, the gate lets the model through; the pictures are not looked at.
SMALL = (
    "base_model.source=base:emoji",
    "training.num_steps=30",
    "training.batch_size=2",
    "training.sample_every_steps=0",
    "prior.num_images=4",
    "prior.num_shards=1",
    "prior.sampling.num_steps=2",
    'evaluation.prompts=["a {subject} on the moon", "a {subject} in snow"]',
    "evaluation.images_per_prompt=1",
    "evaluation.sampling.num_steps=2",
    "inference.num_shards=1",
    "inference.sampling.num_steps=2",
    "promotion.margins.min_subject_gain=-2",
    "promotion.margins.max_prompt_loss=2",
)
STEPS = {
    *("validate_data", "generate_prior", "train", "publish_checkpoint"),
    *("sample_models", "evaluate", "promote", "batch_infer", "finish_run"),
}


def command(*words: str | Path) -> list[str | Path]:
    return [sys.executable, "-m", "boothline.cli.app", *words, "--output", "json"]


def run_command(home: Path) -> list[str | Path]:
    """Return the demo's command with a small configuration, in containers."""
    settings = [part for setting in SMALL for part in ("--set", setting)]
    place = ("--profile", "containers", "--home", home)
    return command("run", "examples/demo.yaml", *settings, *place)


def summary_of(words: list[str | Path]) -> dict[str, Any]:
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def wait_for_training(home: Path, starts: "subprocess.Popen[str]") -> None:
    """Wait until the train step's container reports its first step.

    Args:
        home: the home of the run.
        starts: `docker events` of containers that start, as id, image and run: the train step's
            is the second with torch, after the class pictures'.
    """
    assert starts.stdout is not None
    started = (line.split() for line in starts.stdout)
    torch = (
        identity
        for identity, image, run_id in started
        if "torch" in image and (home / "runs" / run_id).exists()
    )
    _, train = (next(torch) for _ in range(2))
    logs = [docker(), "logs", "--follow", train]
    with subprocess.Popen(logs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as log:
        assert log.stdout is not None
        assert any("steps loss" in line for line in log.stdout)


def docker() -> str:
    return shutil.which("docker") or "docker"


def interrupt(home: Path) -> str:
    """Start the demo, stop it in the middle of its training and return its run id."""
    shown = f'{{{{.ID}}}} {{{{.From}}}} {{{{index .Actor.Attributes "{RUN_LABEL}"}}}}'
    wanted = ("--filter", "event=start", "--filter", f"label={RUN_LABEL}", "--format", shown)
    with (
        subprocess.Popen([docker(), "events", *wanted], stdout=subprocess.PIPE, text=True) as seen,
        subprocess.Popen(run_command(home), cwd=ROOT, stdout=subprocess.DEVNULL) as running,
    ):
        wait_for_training(home, seen)
        running.terminate()
        assert running.wait() == 130
        seen.terminate()
    (folder,) = (home / "runs").iterdir()
    left = [docker(), "ps", "--quiet", "--filter", f"label={RUN_LABEL}={folder.name}"]
    assert subprocess.run(left, check=True, capture_output=True).stdout == b""
    return folder.name


@pytest.mark.proves("F30/cpu", "F31/docker", "F50/pods")
def test_demo_is_interrupted_resumed_and_reused_in_the_images(tmp_path: Path) -> None:
    from boothline import services

    try:
        # Nothing of this machine is mounted: the containers have the base from the store.
        add = ("base", "add", "builtin:tiny-emoji-sd", "--name", "emoji")
        assert summary_of(command(*add, "--home", tmp_path))["names"] == ["emoji"]
        run_id = interrupt(tmp_path)
        logs = tmp_path / "runs" / run_id / "logs"
        assert "its state is in the store" in (logs / "train.log").read_text()
        first = summary_of(command("resume", run_id, "--home", tmp_path))
        assert first["status"] == "done"
        assert {step["name"].partition("-")[0] for step in first["steps"]} >= STEPS
        assert all(step["manifest"] for step in first["steps"])
        for step in first["steps"]:
            assert (logs / f"{step['name']}.log").stat().st_size
            events = logs.parent / "events" / f"{step['name']}.jsonl"
            assert events.stat().st_uid == (os.getuid() or NOBODY)
        again = summary_of(run_command(tmp_path))["steps"]
        assert all(step["reused"] for step in again if step["name"] != "finish_run")
    finally:
        services.stop(tmp_path)
