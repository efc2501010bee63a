"""Jobs on the tiny random model: real pictures on disk, a real store, one rank or several."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from boothline.config import RunConfig
from boothline.settings import Settings
from boothline.store import Store
from boothline.training.job import SubjectFolders, TrainingJob
from boothline.warm import Warm

SIDE_PX = 32
JobMaker = Callable[..., TrainingJob]


def write_pictures(folder: Path, captions: list[str], *, seed: int, masked: bool = False) -> Path:
    """Write random PNG pictures with their captions.jsonl; of a masked one the left half counts."""
    (folder / "images").mkdir(parents=True)
    draws = np.random.default_rng(seed)
    rows = []
    for number, caption in enumerate(captions):
        name = f"images/{number:03d}.png"
        pixels = draws.integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
        row = {"image": name, "caption": caption}
        if masked:
            row["mask"] = name.replace(".png", "-mask.png")
            mask = Image.new("L", (SIDE_PX, SIDE_PX))
            mask.paste(255, (0, 0, SIDE_PX // 2, SIDE_PX))
            mask.save(folder / row["mask"])
        rows.append(json.dumps(row) + "\n")
    (folder / "captions.jsonl").write_text("".join(rows))
    return folder


def tiny_config(**training: Any) -> RunConfig:
    """Return the configuration of a short training; keywords replace training settings."""
    settings = {
        "num_steps": 6,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "warmup_steps": 2,
        "num_processes": 1,
        "sample_every_steps": 0,
        **training,
    }
    sampling = {"num_steps": 2, "batch_size": 4}
    return RunConfig.model_validate(
        {
            "subject": {"resolution_px": SIDE_PX, "class_noun": "dog"},
            "training": settings,
            "checkpoints": {"every_steps": 2},
            "prior": {"num_images": 5, "num_shards": 1, "weight": 0.7},
            "evaluation": {"prompts": ["a {subject} on the moon"], "sampling": sampling},
        }
    )


@pytest.fixture
def store_settings(store_settings: Settings, warm: Warm | None) -> Settings:
    """Settings of a fresh store; ranks are forked, as in a local run."""
    return store_settings.model_copy(update={"warm": str(warm or "")})


@pytest.fixture
def make_job(tmp_path: Path, tiny_pipeline: Path, request: pytest.FixtureRequest) -> JobMaker:
    """Return a maker of jobs: equal settings share their states, each job has its own folder."""
    own = ["a photo of sks dog", "sks dog on snow", "a sks dog"]
    instance = write_pictures(tmp_path / "instance", own, seed=1)
    masked = write_pictures(tmp_path / "masked", own, seed=1, masked=True)
    prior = write_pictures(tmp_path / "prior", ["a photo of a dog"] * 5, seed=2)
    made: list[TrainingJob] = []

    def make(
        states: str = "training/job", *, world_size: int = 1, masks: bool = False, **training: Any
    ) -> TrainingJob:
        folder = tmp_path / f"job-{len(made)}"
        folder.mkdir()
        encoders = {}
        if "validation" in training:
            encoders["dino_model"] = request.getfixturevalue("tiny_dino")
            encoders["clip_model"] = request.getfixturevalue("tiny_clip")
        made.append(
            TrainingJob(
                config=tiny_config(num_processes=world_size, **training),
                world_size=world_size,
                base_model=tiny_pipeline,
                base_model_digest="tiny",
                pictures=[SubjectFolders(instance=masked if masks else instance, priors=(prior,))],
                data_digest="data",
                states=states,
                folder=folder,
                **encoders,
            )
        )
        return made[-1]

    return make


@pytest.fixture
def run_here(store_settings: Settings, store: Store) -> Callable[..., dict[str, Any]]:
    """Return a function that trains a job as one rank in this process and tells the result."""

    def run(job: TrainingJob, requests: Any = None) -> dict[str, Any]:
        import torch
        from accelerate.state import AcceleratorState

        from boothline.training.ranks import Requests
        from boothline.training.worker import run_rank

        AcceleratorState._reset_state()  # a rank has a process, and so a precision, of its own
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # busy machines spin in larger teams
        try:
            run_rank(job, settings=store_settings, requests=requests or Requests())
        finally:
            torch.set_num_threads(threads)
        return json.loads((job.folder / "result.json").read_text())

    return run


@pytest.fixture
def digests(store: Store) -> Callable[[str], dict[str, str]]:
    """Return a function that tells the sha256 of each file of a training state."""

    def read(ref: str) -> dict[str, str]:
        return {entry.path: entry.sha256 for entry in store.read(ref).files}

    return read


def sha256(path: Path) -> str:
    """Return the digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
