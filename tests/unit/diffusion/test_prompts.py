"""Prompt files: what is read, and how a bad line is named."""

from pathlib import Path

import pytest

from boothline.config.sampling import SamplingConfig
from boothline.errors import DataError
from boothline.pictures.prompts import PromptRow, read_prompts


def _write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.mark.proves("F16/files")
def test_read_prompts_txt_takes_each_line_without_blanks(tmp_path: Path) -> None:
    path = _write(tmp_path, "p.txt", "\ufeffa dog\r\n\r\n  # a cat  \nein B\u00e4r")
    assert [row.prompt for row in read_prompts(path)] == ["a dog", "# a cat", "ein B\u00e4r"]


@pytest.mark.proves("F16/files")
def test_read_prompts_csv_takes_settings_and_leaves_empty_cells_unset(tmp_path: Path) -> None:
    text = (
        "prompt,seed,num_steps,guidance_scale,negative_prompt,sampler\n"
        '"a dog, sitting",7,12,3.5,blurry,euler\n'
        "a cat,,,,,\n"
    )
    first, second = read_prompts(_write(tmp_path, "p.csv", text))
    assert first == PromptRow(
        prompt="a dog, sitting",
        seed=7,
        num_steps=12,
        guidance_scale=3.5,
        negative_prompt="blurry",
        sampler="euler",
    )
    assert second == PromptRow(prompt="a cat")


def test_read_prompts_csv_short_row_leaves_the_rest_unset(tmp_path: Path) -> None:
    (row,) = read_prompts(_write(tmp_path, "p.csv", "prompt,seed\na cat\n"))
    assert row == PromptRow(prompt="a cat")


@pytest.mark.proves("F16/files")
def test_read_prompts_jsonl_takes_objects(tmp_path: Path) -> None:
    text = '{"prompt": "a dog", "height_px": 64}\n\n{"prompt": "a cat", "negative_prompt": ""}\n'
    rows = read_prompts(_write(tmp_path, "p.jsonl", text))
    assert rows == [
        PromptRow(prompt="a dog", height_px=64),
        PromptRow(prompt="a cat", negative_prompt=""),
    ]


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("p.csv", "prompt,seed\na,1\nb,-1\n", ["line 3", "seed", "'-1'", "greater than or equal"]),
        ("p.csv", 'prompt,seed\n"a\nb",1\nc,x\n', ["line 2", "control characters"]),
        ("p.csv", "prompt,seed\na,x\n\nb,1\n", ["line 2", "seed", "'x'"]),
        ("p.csv", "prompt,sede\na,1\n", ["line 2", "'sede'", "did you mean 'seed'"]),
        ("p.csv", "text,seed\na,1\n", ["line 1", "no 'prompt'"]),
        ("p.csv", "prompt,seed,seed\na,1,2\n", ["line 1", "'seed' twice"]),
        ("p.csv", "prompt\na,1\n", ["line 2", "2 cells"]),
        ("p.csv", 'prompt\n"a\n', ["is not CSV"]),
        ("p.csv", "prompt,seed\n,1\n", ["line 2", "lacks 'prompt'"]),
        ("p.jsonl", '{"prompt": "a"}\n{"prompt": "b"\n', ["line 2", "is not JSON"]),
        ("p.jsonl", '["a"]\n', ["line 1", "list, not an object"]),
        ("p.jsonl", "[" * 100_000, ["line 1", "is not JSON"]),
        ("p.jsonl", '{"prompt": "a", "sampler": "fast"}', ["line 1", "sampler", "'fast'", "ddim"]),
        ("p.jsonl", '{"prompt": "a", "guidance_scale": NaN}', ["line 1", "guidance_scale"]),
        ("p.txt", "a dog\na \x1b[2J cat\n", ["line 2", "control characters"]),
        ("p.txt", "x" * 2001, ["line 1", "at most 2000", "xxx..."]),
    ],
)
def test_read_prompts_bad_line_is_named(
    tmp_path: Path, name: str, text: str, wanted: list[str]
) -> None:
    path = _write(tmp_path, name, text)
    with pytest.raises(DataError) as caught:
        read_prompts(path)
    for part in [str(path), *wanted]:
        assert part in caught.value.message
    assert len(caught.value.message) < len(str(path)) + 300


@pytest.mark.parametrize("name", ["p.txt", "p.csv", "p.jsonl"])
def test_read_prompts_empty_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="holds no prompts"):
        read_prompts(_write(tmp_path, name, "\n"))


def test_read_prompts_unknown_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\.txt, \.csv or \.jsonl, not '\.yaml'"):
        read_prompts(_write(tmp_path, "p.yaml", "a"))


def test_read_prompts_other_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_bytes("B\u00e4r".encode("latin-1"))
    with pytest.raises(DataError, match="is not UTF-8: byte 1"):
        read_prompts(path)


def test_read_prompts_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_prompts(tmp_path / "p.txt")


def test_prompt_row_overrides_only_what_it_sets() -> None:
    default = SamplingConfig(num_steps=20, guidance_scale=5, sampler="ddim")
    own = PromptRow(prompt="a", num_steps=3).sampling(default)
    assert (own.num_steps, own.guidance_scale, own.sampler) == (3, 5, "ddim")


def test_read_prompts_names_pictures_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"x")
    path = tmp_path / "in" / "rows.jsonl"
    path.write_text('{"prompt": "a", "image": "a.png", "strength": 0.4}\n')
    (row,) = read_prompts(path)
    assert row.image == str(tmp_path / "in" / "a.png")
    assert (row.mask, row.strength) == (None, 0.4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ('"image": "gone.png"', "line 1 names the image 'gone.png', which does not exist"),
        ('"mask": "m.png"', "line 1 is wrong: mask and strength need an image"),
        ('"image": "a.png", "strength": 2', "has strength = 2"),
    ],
)
def test_read_prompts_bad_edit_is_named(tmp_path: Path, fields: str, message: str) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"prompt": "a", {fields}}}\n')
    with pytest.raises(DataError, match=message):
        read_prompts(path)
