"""Trainings of a few steps on the tiny random model, described as JSON."""

import json
from pathlib import Path
from typing import Any


def training_job(
    folder: Path, base: Path, *, world_size: int = 1, **training: Any
) -> dict[str, Any]:
    """Return a job of four steps with a state after every second one, as JSON.

    Args:
        folder: receives the pictures.
        base: the tiny random model.
        world_size: number of ranks.
        training: further training settings.
    """
    import numpy as np
    from PIL import Image

    draws = np.random.default_rng(1)
    for name in ("instance", "prior"):
        (folder / name / "images").mkdir(parents=True)
        rows = []
        for number in range(2):
            path = f"images/{number:03d}.png"
            pixels = draws.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / path)
            rows.append(json.dumps({"image": path, "caption": "a photo of sks dog"}) + "\n")
        (folder / name / "captions.jsonl").write_text("".join(rows))
    config = {
        "subject": {"resolution_px": 32, "class_noun": "dog"},
        "training": {
            "num_steps": 4, "batch_size": 2, "num_processes": world_size, "sample_every_steps": 0,
            "warmup_steps": 1, **training,
        },
        "checkpoints": {"every_steps": 2},
        "prior": {"num_images": 2, "num_shards": 1},
        "evaluation": {
            "prompts": ["a {subject}"], "sampling": {"num_steps": 1, "batch_size": 1},
        },
    }  # fmt: skip
    return {
        "config": config, "world_size": world_size,
        "base_model": str(base), "base_model_digest": "tiny",
        "pictures": [
            {"instance": str(folder / "instance"), "priors": [str(folder / "prior")]}
        ],
        "data_digest": "data", "states": "training/job",
    }  # fmt: skip
