"""Small base models, pictures, and jobs for the comparison with the reference."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from boothline.config import RunConfig
from boothline.training.job import SubjectFolders, TrainingJob

SIDE_PX = 32
BaseMaker = Callable[..., Path]
JobMaker = Callable[..., TrainingJob]


def write_pictures(
    folder: Path, captions: list[str], *, seed: int, wide: int = 0, masked: bool = False
) -> Path:
    """Write random pictures, the last `wide` of them half as wide again as they are high.

    Where they are masked, every other one has a mask: black, grey and white in stripes.
    """
    (folder / "images").mkdir(parents=True)
    draws = np.random.default_rng(seed)
    rows = []
    for number, caption in enumerate(captions):
        width = SIDE_PX * 3 // 2 if number >= len(captions) - wide else SIDE_PX
        pixels = draws.integers(0, 256, (SIDE_PX, width, 3), dtype=np.uint8)
        path = f"images/{number:03d}.png"
        Image.fromarray(pixels).save(folder / path)
        row = {"image": path, "caption": caption}
        if masked and number % 2 == 0:
            row["mask"] = path.replace(".png", "-mask.png")
            stripes = np.resize(np.repeat([0, 255, 90, 255, 0], 7), width)
            mask = np.tile(stripes.astype(np.uint8), (SIDE_PX, 1))
            mask[SIDE_PX // 2 :] //= 2
            Image.fromarray(mask).save(folder / row["mask"])
        rows.append(json.dumps(row) + "\n")
    (folder / "captions.jsonl").write_text("".join(rows))
    return folder


@pytest.fixture(scope="session")
def base_of(tiny_pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> BaseMaker:
    """Return a maker of base models that differ in their noise schedule."""
    made: dict[str, Path] = {}

    def make(**schedule: Any) -> Path:
        name = json.dumps(schedule, sort_keys=True)
        if name not in made:
            made[name] = tmp_path_factory.mktemp("base") / "tiny"
            shutil.copytree(tiny_pipeline, made[name])
            path = made[name] / "scheduler" / "scheduler_config.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), **schedule}))
        return made[name]

    return make


@pytest.fixture(scope="session")
def base_2x(base_of: BaseMaker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base in the layout of Stable Diffusion 2.x: v-prediction, linear projections, gelu."""
    import torch
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    folder = tmp_path_factory.mktemp("base") / "tiny-2x"
    shutil.copytree(base_of(prediction_type="v_prediction"), folder)
    config = UNet2DConditionModel.load_config(folder / "unet")
    layout = {"use_linear_projection": True, "attention_head_dim": [2, 4], "upcast_attention": True}
    text = CLIPTextConfig.from_pretrained(folder / "text_encoder")
    text.hidden_act = "gelu"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        UNet2DConditionModel.from_config({**config, **layout}).save_pretrained(folder / "unet")
        CLIPTextModel(text).save_pretrained(folder / "text_encoder")
    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of pictures: the subject's in one shape and in two, and the class's."""
    root = tmp_path_factory.mktemp("pictures")
    own = ["a photo of sks dog", "sks dog on snow", "a sks dog", "a sks dog on the beach"]
    return {
        "square": write_pictures(root / "square", own[:3], seed=1),
        "two shapes": write_pictures(root / "two", own, seed=2, wide=1),
        "square, masked": write_pictures(root / "square-masked", own[:3], seed=1, masked=True),
        "two shapes, masked": write_pictures(root / "two-masked", own, seed=2, wide=1, masked=True),
        "second": write_pictures(root / "second", ["a zwx cat", "zwx cat on grass"], seed=4),
        "second class": write_pictures(root / "second-class", ["a cat"] * 3, seed=5),
        "class": write_pictures(root / "class", ["a dog", "a photo of a dog"] * 2, seed=3),
    }


@pytest.fixture
def make_job(tmp_path: Path, base_of: BaseMaker, pictures: dict[str, Path]) -> JobMaker:
    """Return a maker of jobs of three steps from the settings of a case."""

    def make(
        *, kind: str = "epsilon", prior: float | None = 0.6, buckets: tuple[str, ...] = (),
        base: Path | None = None, world_size: int = 1, masks: bool = False,
        num_subjects: int = 1, **training: Any,
    ) -> TrainingJob:  # fmt: skip
        folder = tmp_path / f"job-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        settings = {"num_steps": 3, "batch_size": 2, "num_processes": world_size,
                    "warmup_steps": 1, "sample_every_steps": 0, **training}  # fmt: skip
        sampling = {"num_steps": 1, "batch_size": 1}
        first = ("two shapes" if buckets else "square") + ", masked" * masks
        subjects = [
            {"name": noun, "images": "pictures", "identifier": identifier, "class_noun": noun}
            for identifier, noun in (("sks", "dog"), ("zwx", "cat"))
        ]
        config = {
            "subject": {
                "name": "pets", "resolution_px": SIDE_PX, "class_noun": "dog",
                "aspect_buckets": list(buckets),
            },
            "subjects": subjects if num_subjects > 1 else [],
            "training": settings,
            "prior": {"enabled": prior is not None, "weight": prior or 0.0},
            "evaluation": {"prompts": ["a {subject}"], "sampling": sampling},
        }  # fmt: skip
        return TrainingJob(
            config=RunConfig.model_validate(config),
            world_size=world_size,
            base_model=base or base_of(prediction_type=kind),
            base_model_digest="base",
            pictures=[
                SubjectFolders(
                    instance=pictures[own],
                    priors=(pictures[kind_of],) if prior is not None else (),
                )
                for own, kind_of in ((first, "class"), ("second", "second class"))[:num_subjects]
            ],
            data_digest="data",
            states="training/job",
            folder=folder,
        )

    return make
