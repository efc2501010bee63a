"""One training of the tiny base for the benchmarks, ours or the peer's, with equal settings."""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from boothline.config import RunConfig

NUM_INSTANCE = 4
NUM_PRIOR = 32
SIDE_PX = 64
NEVER = 10**9
BATCH_SIZE = 4
INSTANCE_PROMPT = "a photo of sks bear"
CLASS_PROMPT = "a photo of a bear"
MODEL = Path(__file__).resolve().parents[1] / "models" / "tiny-emoji-sd"


@dataclass(frozen=True)
class Task:
    """Settings that both sides are given.

    Attributes:
        folder: pictures of the task, see `draw_pictures`.
        precision: `fp32` or `bf16`.
        train_text_encoder: train the text encoder too.
        batch_size: instance pictures a step; as many class pictures.
    """

    folder: Path
    precision: str
    train_text_encoder: bool
    batch_size: int = BATCH_SIZE


def draw_pictures(
    folder: Path, *, side_px: int = SIDE_PX, num_prior: int = NUM_PRIOR, suffix: str = ".png"
) -> None:
    """Write random pictures: training time does not depend on what they show.

    Args:
        folder: receives `instance` and `prior`.
        side_px: side of each; the noise of larger ones is coarser, as photographs are smooth.
        num_prior: class pictures.
        suffix: says the format.
    """
    draws = np.random.default_rng(0)
    for name, count, caption in (
        ("instance", NUM_INSTANCE, INSTANCE_PROMPT),
        ("prior", num_prior, CLASS_PROMPT),
    ):
        images = folder / name / "images"
        images.mkdir(parents=True)
        rows = []
        for number in range(count):
            drawn_px = min(side_px, SIDE_PX)
            pixels = draws.integers(0, 256, (drawn_px, drawn_px, 3), dtype=np.uint8)
            path = f"images/{number:03d}{suffix}"
            Image.fromarray(pixels).resize((side_px, side_px)).save(folder / name / path)
            rows.append(json.dumps({"image": path, "caption": caption}))
        (folder / name / "captions.jsonl").write_text("\n".join(rows) + "\n")


def peer_command(
    task: Task,
    *,
    script: Path,
    num_steps: int,
    output: Path,
    other: Mapping[str, object] | None = None,
) -> list[str]:
    """Return the command of diffusers' train_dreambooth.py for a task: as its README starts it.

    Args:
        task: the settings.
        script: the peer's.
        num_steps: optimizer steps.
        output: folder of the trained model.
        other: options in place of the task's, by name.
    """
    precision = {"fp32": "no"}.get(task.precision, task.precision)
    arguments: dict[str, object] = {
        "pretrained_model_name_or_path": MODEL,
        "instance_data_dir": task.folder / "instance" / "images",
        "class_data_dir": task.folder / "prior" / "images",
        "instance_prompt": INSTANCE_PROMPT,
        "class_prompt": CLASS_PROMPT,
        "num_class_images": NUM_PRIOR,
        "resolution": SIDE_PX,
        "train_batch_size": task.batch_size,
        "max_train_steps": num_steps,
        "learning_rate": 1e-5,
        "lr_scheduler": "constant",
        "lr_warmup_steps": 0,
        "mixed_precision": precision,
        "checkpointing_steps": NEVER,
        "seed": 0,
        "output_dir": output,
        **(other or {}),
    }
    command = peer_launch(script, arguments, precision=precision)
    return command + (["--train_text_encoder"] if task.train_text_encoder else [])


def peer_launch(
    script: Path, arguments: Mapping[str, object], *, precision: str = "no"
) -> list[str]:
    """Return the command that starts diffusers' script with prior preservation, in one process."""
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--mixed_precision", precision]
    for option in ("--num_processes=1", "--num_machines=1", "--dynamo_backend=no", "--module"):
        launch.append(option)
    command = [*launch, "benchmarks.peer", str(script), "--with_prior_preservation"]
    return command + as_options(arguments)


def as_options(arguments: Mapping[str, object]) -> list[str]:
    """Return arguments as options of a command; True is an option without a value."""
    options: list[str] = []
    for name, value in arguments.items():
        options += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return options


def config_of(
    task: Task,
    *,
    num_steps: int,
    extra: Mapping[str, Any] | None = None,
    state_every: int = NEVER,
) -> RunConfig:
    """Return our configuration for a task.

    Args:
        task: the settings.
        num_steps: optimizer steps.
        extra: further settings of `training`.
        state_every: steps between training states; as the peer, one at the end alone by default.
    """
    training = {
        "num_steps": num_steps,
        "batch_size": task.batch_size,
        "num_processes": 1,
        "precision": task.precision,
        "train_text_encoder": task.train_text_encoder,
        "learning_rate": 1e-5,
        "warmup_steps": 0,
        "sample_every_steps": 0,
        **(extra or {}),
    }
    return RunConfig.model_validate(
        {
            "training": training,
            "checkpoints": {"every_steps": state_every},
            "subject": {"resolution_px": SIDE_PX},
            "evaluation": {"sampling": {"num_steps": 1}, "prompts": ["a {subject}"]},
        }
    )


def our_command(task: Task, config: RunConfig, *, states: str = "") -> list[str]:
    """Return the command of our training for a task; named states are gone on from."""
    module = "benchmarks.training_task"
    command = [sys.executable, "-m", module, str(task.folder), config.model_dump_json()]
    return [*command, "--states", states] if states else command


def environment(*, threads: int, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of both sides: the same number of threads."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads), **(more or {})}


class Notes:
    """What a training tells while it runs.

    Attributes:
        first_step_at: when its first new step was reported, in seconds since the epoch.
        images_per_second: of each step, without sheets and states.
        state_seconds: what the training waited for each state, by the steps behind it.
        peak_bytes: memory of rank 0.
    """

    def __init__(self) -> None:
        self.first_step_at = 0.0
        self.images_per_second: list[float] = []
        self.state_seconds: dict[int, float] = {}
        self.peak_bytes = 0

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Take in an event."""
        if event["event"] == "step":
            self.first_step_at = self.first_step_at or time.time()
            self.images_per_second.append(event["images_per_second"])
        elif event["event"] == "state":
            self.state_seconds[event["step"]] = event["seconds"]
        elif event["event"] == "memory":
            self.peak_bytes = event["peak_bytes"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train once through the product's own path: torchrun, training states in the store.

    The last line printed is a JSON object with what `Notes` has.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("config", type=RunConfig.model_validate_json)
    parser.add_argument("--states", default="", help="go on from these training states")
    options = parser.parse_args(arguments)

    from boothline.settings import Settings
    from boothline.training.job import SubjectFolders, TrainingJob
    from boothline.training.launch import train

    config: RunConfig = options.config
    folder = Path(tempfile.mkdtemp(prefix="boothline-bench-"))
    notes = Notes()
    try:
        job = TrainingJob(
            config=config,
            world_size=config.training.num_processes,
            base_model=MODEL,
            base_model_digest="benchmark",
            pictures=(
                SubjectFolders(
                    instance=options.folder / "instance", priors=(options.folder / "prior",)
                ),
            ),
            data_digest="benchmark",
            states=f"training/{options.states or folder.name}",
            folder=folder,
        )
        train(job, settings=Settings(), on_event=notes)
    finally:
        shutil.rmtree(folder)
    sys.stdout.write(json.dumps(vars(notes)) + "\n")


if __name__ == "__main__":
    main()
