"""`make bench-memory`: the memory plan against the measured peak of a rank, tiny base."""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring import print_table, tell
from benchmarks.training_task import MODEL, Task, config_of, draw_pictures
from boothline import services
from boothline.config import RunConfig
from boothline.planning import ModelShapes, plan_memory
from boothline.settings import Settings
from boothline.training.job import SubjectFolders, TrainingJob
from boothline.training.launch import train

PROVES = ("F47/measured",)
NUM_STEPS = 8
CASES: Mapping[str, Mapping[str, Any]] = {
    "full, text encoder trained": {},
    "text encoder frozen": {"train_text_encoder": False},
    "batch 16 + 16": {"batch_size": 16},
    "batch 16 + 16, gradient checkpointing": {"batch_size": 16, "gradient_checkpointing": True},
    "weight average": {"ema_decay": 0.99},
    "LoRA": {"method": "lora"},
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)
    shapes = ModelShapes.read(MODEL)
    rows = []
    with tempfile.TemporaryDirectory(prefix="boothline-bench-") as scratch:
        home, pictures = Path(scratch) / "home", Path(scratch) / "pictures"
        draw_pictures(pictures)
        settings = services.ensure(home, only=("seaweedfs",)).settings()
        try:
            for number, (name, training) in enumerate(CASES.items()):
                task = Task(pictures, precision="fp32", train_text_encoder=True)
                config = config_of(
                    task, num_steps=NUM_STEPS, extra=training, state_every=NUM_STEPS // 2
                )
                folder = Path(scratch) / f"job-{number}"
                folder.mkdir()
                measured = peak_bytes(config, task=task, folder=folder, settings=settings)
                planned = plan_memory(config, shapes, device="cpu").total
                rows.append(
                    {
                        "training": name,
                        "planned MiB": round(planned / 2**20),
                        "measured MiB": round(measured / 2**20),
                        "difference %": 100 * (planned - measured) / measured,
                    }
                )
                tell(str(rows[-1]))
        finally:
            services.stop(home)
    print_table("Memory plan against measured peak of one rank, tiny base, CPU", rows)


def peak_bytes(config: RunConfig, *, task: Task, folder: Path, settings: Settings) -> int:
    """Train and return the peak that the rank reported."""
    peaks: list[int] = []
    job = TrainingJob(
        config=config,
        world_size=1,
        base_model=MODEL,
        base_model_digest="benchmark",
        pictures=(
            SubjectFolders(instance=task.folder / "instance", priors=(task.folder / "prior",)),
        ),
        data_digest="benchmark",
        states=f"training/{folder.name}",
        folder=folder,
    )

    def note(event: Mapping[str, Any]) -> None:
        if event["event"] == "memory":
            peaks.append(int(event["peak_bytes"]))

    train(job, settings=settings, on_event=note)
    return peaks[-1]


if __name__ == "__main__":
    main()
