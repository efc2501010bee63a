"""What `boothline generate` asks for before it opens anything."""

from pathlib import Path

import pytest

from boothline.cli.generating import _rows, _sampling, _with_edit, _with_size
from boothline.errors import ConfigError
from boothline.pictures.prompts import PromptRow

ROWS = [PromptRow(prompt="a"), PromptRow(prompt="b", image="/own.png", strength=0.1)]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    path.write_bytes(b"x")
    return path


def test_rows_with_neither_or_both_of_prompt_and_file_are_refused(tmp_path: Path) -> None:
    for prompt, prompts in ((None, None), ("a", tmp_path / "p.txt")):
        with pytest.raises(ConfigError, match="either a prompt or"):
            _rows(prompt, prompts)


def test_with_edit_gives_the_picture_to_rows_without_one(picture: Path) -> None:
    plain, own = _with_edit(ROWS, image=picture, mask=picture, strength=0.5)
    assert (plain.image, plain.mask, plain.strength) == (str(picture), str(picture), 0.5)
    assert own == ROWS[1]


def test_with_edit_without_a_picture_leaves_rows_as_they_are() -> None:
    assert _with_edit(ROWS, image=None, mask=None, strength=None) == ROWS


@pytest.mark.parametrize("options", [{"mask": Path("m.png")}, {"strength": 0.5}])
def test_with_edit_of_no_picture_is_refused(options) -> None:
    with pytest.raises(ConfigError, match="no --image"):
        _with_edit(ROWS, **{"image": None, "mask": None, "strength": None, **options})


def test_with_edit_of_a_missing_picture_names_it(picture: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.png does not exist"):
        _with_edit(ROWS, image=picture, mask=tmp_path / "gone.png", strength=None)


def test_sampling_options_go_over_the_defaults_and_wrong_ones_are_named() -> None:
    found = _sampling({"sampler": "euler_a", "num_steps": 7, "guidance_scale": None, "seed": 3})
    assert (found.sampler, found.num_steps, found.guidance_scale, found.seed) == (
        *("euler_a", 7, 5.0, 3),
    )
    with pytest.raises(ConfigError, match="--sampler eular: ") as caught:
        _sampling({"sampler": "eular"})
    assert caught.value.remedy == "Did you mean euler?"


def test_size_option_is_for_rows_without_one() -> None:
    own = PromptRow(prompt="a", width_px=64)
    wide, kept = _with_size([PromptRow(prompt="b"), own], "96x64")
    assert (wide.width_px, wide.height_px, kept) == (96, 64, own)
    for wrong in ("96", "96x63", "0x64", "8000x64"):
        with pytest.raises(ConfigError, match="is not a size"):
            _with_size([own], wrong)


def test_help_names_the_options_of_sampling_and_the_columns_of_prompt_files(monkeypatch) -> None:
    from typer.testing import CliRunner

    from boothline.cli.app import app

    shown = CliRunner().invoke(app, ["generate", "--help"], env={"COLUMNS": "200"}).stdout
    columns = set(PromptRow.model_fields)
    assert all(f"--{option} " in shown for option in ("sampler", "steps", "guidance", "negative"))
    assert {name for name in columns if name not in shown} == set()
