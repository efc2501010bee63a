"""Each further family by the command line: from pictures to a verdict and pictures of the model."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from command_line import boothline
from family_fixtures import MAKERS
from model_fixtures import make_tiny_clip, make_tiny_dino
from PIL import Image

from boothline import services
from boothline.launch.local.processes import processes_of

pytestmark = [pytest.mark.slow, pytest.mark.services]
# What Stable Diffusion 1.x does has tests of its own.
FAMILIES = sorted(MAKERS.keys() - {"sd1"})
SAMPLING = {"num_steps": 2, "batch_size": 2}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with pictures, and a home whose services run for this module."""
    place = tmp_path_factory.mktemp("families")
    (place / "pictures").mkdir()
    for number in range(4):
        image = Image.effect_noise((64, 64), 40 + 40 * number).convert("RGB")
        image.paste((40 * number, 90, 200 - 40 * number), (8, 8, 30 + 6 * number, 40))
        image.save(place / "pictures" / f"{number}.png")
    yield place
    services.stop(place / ".boothline")


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Random encoders that read pictures as large as those of photographs are."""
    folder = tmp_path_factory.mktemp("encoders")
    clip = make_tiny_clip(folder / "clip", size_px=224)
    dino = make_tiny_dino(folder / "dino", size_px=224)
    return {"clip_model": str(clip), "dino_model": str(dino)}


@pytest.mark.proves("F26/run")
@pytest.mark.parametrize("family", FAMILIES)
def test_run_of_a_family_reaches_a_verdict_and_draws_with_the_model(
    place: Path,
    family_folders: Callable[[str], Path],
    encoders: dict[str, str],
    family: str,
) -> None:
    file = place / f"{family}.yaml"
    name = family.replace("_", "-")
    sampling = SAMPLING if family == "sdxl" else {**SAMPLING, "sampler": "euler"}  # flow matching
    subject = {"name": name, "images": "pictures", "class_noun": "bear", "resolution_px": 32}
    wide = {"min_subject_gain": -2, "max_prompt_loss": 2, "max_prior_loss": 2}
    settings = {
        "subject": subject,
        "base_model": {"source": str(family_folders(family))},
        "prior": {"num_images": 2, "num_shards": 1, "sampling": sampling},
        "training": {"method": "lora", "num_steps": 4, "sample_every_steps": 0,
                     "train_text_encoder": False},
        "evaluation": {"prompts": ["a photo of a {subject}"], "images_per_prompt": 2,
                       "num_shards": 1, "sampling": sampling, **encoders},
        "inference": {"sampling": sampling, "num_shards": 1},
        "promotion": {"margins": {**wide, "max_diversity_loss": 2}},
    }  # fmt: skip
    file.write_text(yaml.safe_dump(settings))
    code, summary, errors = boothline(place, "run", str(file))
    assert code == 0, errors
    assert (summary["status"], summary["verdict"]) == ("done", "promoted")
    assert "batch_infer-0" in {step["name"] for step in summary["steps"]}
    assert Path(summary["report"]).is_file()
    assert processes_of(Path(summary["report"]).parent) == []
    code, drawn, errors = boothline(
        place, "generate", "a photo of sks bear in snow", "--steps=2", "--size=32x32"
    )
    assert code == 0, errors
    assert drawn["model"].startswith(f"boothline-{name}")
    assert Image.open(place / drawn["pictures"][0]).size == (32, 32)
