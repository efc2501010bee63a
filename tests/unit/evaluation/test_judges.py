"""Which encoders can judge which base: refused where they cannot, with the setting to change."""

import json
from pathlib import Path
from typing import Any

import pytest

from boothline.config import RunConfig
from boothline.errors import ConfigError
from boothline.evaluation.judges import check_judges, input_px, unfit_judges

BUILTIN = {"dino_model": "builtin:tiny-emoji-dino", "clip_model": "builtin:tiny-emoji-clip"}
REAL = {"dino_model": "base:dino", "clip_model": "base:clip"}
MODELS = Path(__file__).resolve().parents[3] / "models"


def config_of(**encoders: str) -> RunConfig:
    return RunConfig.model_validate({"evaluation": encoders})


def encoder(folder: Path, **config: Any) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.proves("F51/judges")
@pytest.mark.parametrize("native", [64, 128, 256, 512, 1024, None])
@pytest.mark.parametrize("encoders", ["builtin", "real", "small"])
def test_judges_of_a_base_are_those_that_can_see_its_pictures(
    tmp_path: Path, native: int | None, encoders: str
) -> None:
    config = config_of(**(BUILTIN if encoders == "builtin" else REAL))
    side = 64 if encoders == "small" else 224
    folders = {
        "dino_model": encoder(tmp_path / "dino", image_size=side),
        "clip_model": encoder(tmp_path / "clip", vision_config={"image_size": side}),
    }
    found = list(unfit_judges(config, native=native, folders=folders))
    is_small = native in (64, 128, None)
    expected = [] if is_small or encoders == "real" else ["dino_model", "clip_model"]
    assert [unfit.setting for unfit in found] == [f"evaluation.{name}" for name in expected]
    if found:
        with pytest.raises(ConfigError, match="cannot judge") as caught:
            check_judges(config, native=native, folders=folders)
        assert "docs/evaluation.md" in caught.value.remedy
    else:
        check_judges(config, native=native, folders=folders)


def test_builtin_encoders_are_refused_by_name_alone() -> None:
    mixed = config_of(dino_model="base:dino", clip_model="builtin:tiny-emoji-clip")
    (unfit,) = unfit_judges(mixed, native=512)
    assert unfit.message == (
        "evaluation.clip_model builtin:tiny-emoji-clip was made for the pictures of the tiny base; "
        "it cannot judge those of 512 px"
    )


def test_encoders_that_do_not_say_what_they_read_are_taken(tmp_path: Path) -> None:
    folder = encoder(tmp_path / "dino", model_type="dinov2")
    assert input_px(folder) is None
    assert not list(unfit_judges(config_of(**REAL), native=512, folders={"dino_model": folder}))


@pytest.mark.parametrize("name", ["tiny-emoji-dino", "tiny-emoji-clip"])
def test_input_of_the_builtin_encoders_is_64_px(name: str) -> None:
    assert input_px(MODELS / name) == 64
