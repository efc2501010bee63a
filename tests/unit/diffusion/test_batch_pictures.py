"""From prompt rows to named pictures with provenance."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from boothline.config.sampling import SamplingConfig
from boothline.diffusion.loading import DiffusionParts
from boothline.pictures.making import generate, save_picture
from boothline.pictures.plan import plan_pictures
from boothline.pictures.prompts import PromptRow
from boothline.pictures.sheets import contact_sheet

SAMPLING = SamplingConfig(num_steps=1, batch_size=4, seed=3, negative_prompt="blue")
ROWS = [
    PromptRow(prompt="a dog"),
    PromptRow(prompt="a cat", num_steps=2, negative_prompt=""),
    PromptRow(prompt="a bear", seed=11),
    PromptRow(prompt="a bear", height_px=16, width_px=48),
    PromptRow(prompt="a red dog", sampler="euler_a"),
]


def _pixels(parts: DiffusionParts, **plan: int) -> dict[str, bytes]:
    pictures = plan_pictures(ROWS, sampling=SAMPLING, **plan)
    return {picture.name: image.tobytes() for picture, image in generate(parts, pictures)}


def test_plan_pictures_names_rows_and_numbers() -> None:
    pictures = plan_pictures(ROWS, sampling=SAMPLING, images_per_prompt=2)
    assert [p.name for p in pictures][:3] == ["00000-00.png", "00000-01.png", "00001-00.png"]
    assert [p.negative_prompt for p in pictures[1:3]] == ["blue", ""]
    assert [(p.height_px, p.width_px) for p in pictures[6:7]] == [(16, 48)]


def test_plan_pictures_shards_share_all_rows() -> None:
    shards = [
        plan_pictures(ROWS, sampling=SAMPLING, shard=shard, num_shards=3) for shard in range(3)
    ]
    assert [[int(p.name[:5]) for p in shard] for shard in shards] == [[0, 3], [1, 4], [2]]


def test_plan_pictures_resolution_is_for_rows_without_size() -> None:
    pictures = plan_pictures(ROWS, sampling=SAMPLING, resolution_px=24)
    assert [(p.height_px, p.width_px) for p in pictures[2:4]] == [(24, 24), (16, 48)]


def test_generate_shards_and_order_change_no_picture(tiny_parts: DiffusionParts) -> None:
    whole = _pixels(tiny_parts, images_per_prompt=2)
    assert len(set(whole.values())) == len(whole) == 10
    sharded: dict[str, bytes] = {}
    for shard in range(2):
        sharded |= _pixels(tiny_parts, images_per_prompt=2, shard=shard, num_shards=2)
    assert sharded == whole
    first = {name: data for name, data in whole.items() if name.endswith("-00.png")}
    assert _pixels(tiny_parts, images_per_prompt=1) == first


@pytest.mark.proves("F16/noise")
def test_generate_row_with_a_seed_is_the_same_in_another_file(tiny_parts: DiffusionParts) -> None:
    alone = plan_pictures([ROWS[2]], sampling=SAMPLING)
    ((_, image),) = generate(tiny_parts, alone)
    assert image.tobytes() == _pixels(tiny_parts)["00002-00.png"]


@pytest.mark.proves("F16/settings")
@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 11},
        {"num_steps": 2},
        {"guidance_scale": 1.5},
        {"sampler": "euler_a"},
        {"negative_prompt": "a dog"},
        {"height_px": 48},
        {"width_px": 16},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_generate_row_with_a_setting_of_its_own_is_another_picture(
    tiny_parts: DiffusionParts, settings: dict[str, Any]
) -> None:
    rows = [PromptRow(prompt="a dog", **own) for own in ({}, settings)]
    sampling = SAMPLING.model_copy(update={"num_steps": 3, "guidance_scale": 6.0})
    plain, changed = plan_pictures(rows, sampling=sampling)
    first = replace(changed, index=plain.index)  # the row's number is no reason to differ
    (_, before), (_, after) = (
        next(iter(generate(tiny_parts, [picture]))) for picture in (plain, first)
    )
    assert (before.size, before.tobytes()) != (after.size, after.tobytes())
    for name, side in (("height_px", after.height), ("width_px", after.width)):
        assert side == settings.get(name, 32)


def test_generate_row_settings_are_used(tiny_parts: DiffusionParts) -> None:
    pictures = plan_pictures(ROWS, sampling=SAMPLING)
    sizes = {int(p.name[:5]): image.size for p, image in generate(tiny_parts, pictures)}
    assert sizes == {0: (32, 32), 1: (32, 32), 2: (32, 32), 3: (48, 16), 4: (32, 32)}


def test_generate_progress_runs_over_all_settings(tiny_parts: DiffusionParts) -> None:
    seen: list[tuple[int, int]] = []
    pictures = plan_pictures(ROWS, sampling=SAMPLING)
    list(generate(tiny_parts, pictures, on_progress=lambda *counts: seen.append(counts)))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (5, 5)


def test_save_picture_carries_model_and_settings(tmp_path: Path) -> None:
    (picture,) = plan_pictures([PromptRow(prompt="ein B\u00e4r \u2603", seed=4)], sampling=SAMPLING)
    path = tmp_path / "images" / picture.name
    save_picture(Image.new("RGB", (8, 8), "red"), picture, path, model_digest="ab" * 32)
    with Image.open(path) as image:
        text = dict(image.text)  # type: ignore[attr-defined]
    assert text["model"] == "ab" * 32
    assert "run" not in text  # boothline generate makes pictures without a run
    assert (text["prompt"], text["seed"], text["sampler"]) == (
        "ein B\u00e4r \u2603",
        "4",
        "dpmpp_2m",
    )


def test_contact_sheet_places_pictures_in_rows() -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    images = [Image.new("RGB", (10, 10), colour) for colour in colours]
    sheet = contact_sheet(images, num_columns=2, gap_px=2)
    assert sheet.size == (26, 26)
    assert [sheet.getpixel(at) for at in ((7, 7), (19, 7), (7, 19))] == colours
    assert sheet.getpixel((19, 19)) == sheet.getpixel((0, 0)) == (255, 255, 255)


def test_contact_sheet_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])
