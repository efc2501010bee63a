"""Which picture stands at which position, and how pictures are read."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from boothline.config.training import TrainingConfig
from boothline.errors import DataError
from boothline.training.pictures import (
    Crops,
    Picture,
    captions_of,
    load_pixels,
    picture_at,
    read_pictures,
)


def test_picture_at_every_epoch_holds_every_picture_once() -> None:
    for epoch in range(4):
        taken = [
            picture_at(position, count=5, seed=3, stream="instance")
            for position in range(epoch * 5, epoch * 5 + 5)
        ]
        assert sorted(taken) == [0, 1, 2, 3, 4]


def test_picture_at_epochs_and_halves_have_orders_of_their_own() -> None:
    def order(stream: str, epoch: int) -> tuple[int, ...]:
        return tuple(picture_at(epoch * 9 + n, count=9, seed=0, stream=stream) for n in range(9))

    assert len({order("instance", 0), order("instance", 1), order("prior", 0)}) == 3


def write_folder(folder, names, size=(8, 8)):
    (folder / "images").mkdir(parents=True)
    rows = []
    for name in names:
        Image.new("RGB", size, (255, 0, 128)).save(folder / "images" / name)
        rows.append(json.dumps({"image": f"images/{name}", "caption": f"picture {name}"}))
    (folder / "captions.jsonl").write_text("\n".join(rows) + "\n")
    return folder


def test_read_pictures_sharded_in_any_way_gives_one_order(tmp_path) -> None:
    whole = write_folder(tmp_path / "whole", ["000.png", "001.png", "002.png"])
    first = write_folder(tmp_path / "first", ["000.png", "002.png"])
    second = write_folder(tmp_path / "second", ["001.png"])
    captions = [picture.caption for picture in read_pictures([whole])]
    assert [picture.caption for picture in read_pictures([first, second])] == captions


def test_read_pictures_without_captions_names_the_folder(tmp_path) -> None:
    with pytest.raises(DataError, match=r"captions\.jsonl"):
        read_pictures([tmp_path])


@pytest.mark.proves("F19/draws")
def test_load_pixels_scales_to_minus_one_to_one_and_flips(tmp_path) -> None:
    pixels = np.zeros((2, 2, 3), dtype=np.uint8)
    pixels[0, 1] = 255
    folder = write_folder(tmp_path, ["a.png"], size=(2, 2))
    Image.fromarray(pixels).save(folder / "images/a.png")
    (picture,) = read_pictures([folder])
    plain = load_pixels(picture, size_px=(2, 2))
    assert plain.shape == (3, 2, 2)
    assert plain[0].tolist() == [[-1, 1], [-1, -1]]
    assert torch.equal(load_pixels(picture, size_px=(2, 2), flip=True), plain.flip(2))


@pytest.mark.proves("F19/draws")
def test_crops_stay_inside_and_depend_on_their_names_alone() -> None:
    ramp = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8), (64, 1))).convert("RGB")
    crops = Crops(count=9, smallest=0.5, interpolation="bilinear", seed=0)
    cut = [np.asarray(crops.cut(ramp, picture=0, crop=n))[:, :, 0] for n in range(9)]
    assert all(part.shape == (64, 64) for part in cut)
    spans = [int(part[0, -1]) - int(part[0, 0]) for part in cut]
    assert all(29 <= span <= 64 for span in spans)
    assert len(set(spans)) > 3
    assert len({int(part[0, 0]) for part in cut}) > 3
    again = np.asarray(crops.cut(ramp, picture=0, crop=3))[:, :, 0]
    assert np.array_equal(again, cut[3])
    other = np.asarray(crops.cut(ramp, picture=1, crop=3))[:, :, 0]
    assert not np.array_equal(other, cut[3])


@pytest.mark.proves("F19/templates")
def test_captions_of_templates_fill_both_fields() -> None:
    picture = Picture(path=Path("a.png"), caption="a sks dog on snow")
    assert captions_of(picture, (), phrase="sks dog") == ("a sks dog on snow",)
    templates = ("a photo of {subject}", "{caption}, close up")
    assert captions_of(picture, templates, phrase="sks dog") == (
        "a photo of sks dog",
        "a sks dog on snow, close up",
    )


def test_caption_template_without_the_subject_is_refused() -> None:
    with pytest.raises(ValidationError, match="has neither"):
        TrainingConfig(caption_templates=("a photo",))


def test_load_pixels_of_another_size_raises(tmp_path) -> None:
    (picture,) = read_pictures([write_folder(tmp_path, ["a.png"])])
    with pytest.raises(DataError, match="8 x 8 pixels, training expects 16 x 16"):
        load_pixels(picture, size_px=(16, 16))


def test_load_pixels_of_a_broken_file_names_it(tmp_path) -> None:
    (picture,) = read_pictures([write_folder(tmp_path, ["a.png"])])
    picture.path.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"a\.png cannot be decoded"):
        load_pixels(picture, size_px=(8, 8))
