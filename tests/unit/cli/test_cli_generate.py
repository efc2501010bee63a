"""What `boothline generate` asks for before it opens anything."""

from pathlib import Path

import pytest

from boothline.cli.generating import _rows, _with_edit
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
