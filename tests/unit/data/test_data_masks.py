"""Masks of pictures: which files they are, what they leave to learn, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from boothline.config.subject import SubjectConfig
from boothline.data import DatasetReport, examine
from boothline.data.intake import SourceFile
from boothline.data.masks import is_mask, may_be_transparent, sorted_out
from boothline.report.validation import render_validation

SIDE = 96


@pytest.fixture
def source(tmp_path: Path, make_picture: Any) -> Path:
    """Three pictures of one subject."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed, name in enumerate("abc"):
        make_picture(seed).resize((SIDE, SIDE)).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def examined(tmp_path: Path, source: Path, no_services: Any) -> Any:
    def run(**changes: Any) -> DatasetReport:
        settings = {"images": str(source), "resolution_px": 32, "min_images": 1, **changes}
        subject = SubjectConfig.model_validate(settings)
        return examine(subject, output=tmp_path / "dataset", settings=no_services)

    return run


def half(size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """A mask that is white in its left half."""
    mask = Image.new("L", size)
    mask.paste(255, (0, 0, size[0] // 2, size[1]))
    return mask


def hide(picture: Path, alpha: Image.Image) -> None:
    """Make a picture transparent where an alpha channel says so."""
    with Image.open(picture) as image:
        layered = image.convert("RGBA")
    layered.putalpha(alpha)
    layered.save(picture)


def rows(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]


def file(name: str) -> SourceFile:
    return SourceFile(name=name, path=Path(name), sha256="", size_bytes=0)


def refusals(report: DatasetReport) -> dict[str, str]:
    return {item.source: item.reason for item in report.quarantined if item.check == "mask"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bear-mask.png", True),
        ("Bear-MASK.PNG", True),
        ("10_sks bear/a-mask.png", True),
        ("mask.png", False),
        ("bear_mask.png", False),
        ("bear-mask.jpg", False),
        ("bear-mask.png.txt", False),
    ],
)
def test_is_mask_goes_by_the_end_of_the_name(name: str, expected: bool) -> None:
    assert is_mask(name) is expected


def test_sorted_out_pairs_a_mask_with_its_picture_in_the_same_folder() -> None:
    files = [file(n) for n in ("a.jpg", "A-mask.png", "x/a.png", "x/b.png", "x/b-mask.png")]
    found = sorted_out(files, [], "auto")
    assert [picture.name for picture in found.pictures] == ["a.jpg", "x/a.png", "x/b.png"]
    pairs = {name: mask.name for name, mask in found.masks.items()}
    assert pairs == {"a.jpg": "A-mask.png", "x/b.png": "x/b-mask.png"}
    assert found.strays == ()


def test_sorted_out_with_masks_off_takes_every_file_for_a_picture() -> None:
    files = [file("a.jpg"), file("a-mask.png")]
    found = sorted_out(files, files, "off")
    assert (list(found.pictures), found.masks) == (files, {})
    assert list(found.class_pictures) == files


def test_sorted_out_names_masks_of_class_pictures_which_are_learnt_whole() -> None:
    others = [file("reg/a.jpg"), file("reg/a-mask.png")]
    found = sorted_out([file("a.jpg")], others, "auto")
    assert list(found.class_pictures) == others[:1]
    assert [(stray.name, stray.advice) for stray in found.strays] == [
        ("reg/a-mask.png", "Remove it.")
    ]


@pytest.mark.proves("F56/masks")
def test_examine_mask_file_is_written_beside_its_picture_cut_alike(
    tmp_path: Path, source: Path, examined: Any, make_picture: Any
) -> None:
    make_picture(0).resize((120, SIDE)).save(source / "a.png")
    half((120, SIDE)).save(source / "a-mask.png")
    report = examined()
    assert [item.mask for item in report.accepted] == ["masks/000.png", "", ""]
    assert len(report.accepted) == 3
    output = tmp_path / "dataset"
    with Image.open(output / "masks/000.png") as mask:
        assert mask.mode == "L"
        wanted = ImageOps.fit(half((120, SIDE)), (32, 32), Image.Resampling.BILINEAR)
        assert np.abs(np.asarray(mask, int) - np.asarray(wanted, int)).max() <= 1
    assert rows(output)[0]["mask"] == "masks/000.png"
    assert "mask" not in rows(output)[1]
    assert report.accepted[0].learnt_share == pytest.approx(0.5, abs=0.02)


@pytest.mark.proves("F56/masks")
def test_examine_transparent_picture_gets_its_alpha_channel_as_mask(
    tmp_path: Path, source: Path, examined: Any
) -> None:
    hide(source / "b.png", half())
    report = examined()
    assert [item.mask for item in report.accepted] == ["", "masks/001.png", ""]
    with Image.open(tmp_path / "dataset/masks/001.png") as mask:
        values = np.asarray(mask)
    assert values[:, :14].min() == 255
    assert values[:, 18:].max() == 0
    assert [item.message for item in report.remarks if item.source == "b.png"] == [
        "is transparent in places, which are not learnt"
    ]
    assert not report.warnings


def test_examine_alpha_and_mask_file_together_hide_what_either_hides(
    tmp_path: Path, source: Path, examined: Any
) -> None:
    hide(source / "a.png", half().transpose(Image.Transpose.ROTATE_270))
    half().save(source / "a-mask.png")
    examined()
    with Image.open(tmp_path / "dataset/masks/000.png") as mask:
        values = np.asarray(mask)
    corners = [values[:12, :12], values[:12, 20:], values[20:, :12], values[20:, 20:]]
    assert sorted(int(corner.mean()) for corner in corners) == [0, 0, 0, 255]
    assert corners[0].min() == 255


def test_examine_with_masks_off_learns_white_where_it_is_transparent(
    tmp_path: Path, source: Path, examined: Any
) -> None:
    hide(source / "b.png", half())
    report = examined(masks="off")
    assert not (tmp_path / "dataset/masks").exists()
    assert [item.message for item in report.warnings] == [
        "is transparent in places; it is laid over white"
    ]


@pytest.mark.proves("F56/refused")
@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (half((10, 20)), "has a mask of 10 x 20 pixels, and itself 96 x 96"),
        (Image.new("L", (SIDE, SIDE)), "has a mask that is black all over, which leaves nothing"),
    ],
    ids=["other size", "black"],
)
def test_examine_picture_whose_mask_cannot_be_used_is_left_out(
    source: Path, examined: Any, mask: Image.Image, reason: str
) -> None:
    mask.save(source / "a-mask.png")
    report = examined()
    found = refusals(report)
    assert list(found) == ["a.png"]
    assert found["a.png"].startswith(reason)
    assert all(item.advice for item in report.quarantined)
    assert [item.source for item in report.accepted] == ["b.png", "c.png"]


def test_examine_mask_that_is_white_only_outside_the_cut_leaves_nothing(
    source: Path, examined: Any, make_picture: Any
) -> None:
    make_picture(0).resize((4 * SIDE, SIDE)).save(source / "a.png")
    mask = Image.new("L", (4 * SIDE, SIDE))
    mask.paste(255, (0, 0, 20, SIDE))
    mask.save(source / "a-mask.png")
    assert list(refusals(examined())) == ["a.png"]


@pytest.mark.proves("F56/refused")
def test_examine_mask_that_cannot_be_decoded_leaves_its_picture_out(
    source: Path, examined: Any
) -> None:
    (source / "a-mask.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert list(refusals(examined())) == ["a.png"]


def test_examine_picture_that_is_transparent_all_over_is_left_out(
    source: Path, examined: Any
) -> None:
    Image.new("RGBA", (SIDE, SIDE), (9, 9, 9, 0)).save(source / "a.png")
    assert refusals(examined()) == {
        "a.png": "is transparent all over, which leaves nothing to learn"
    }


@pytest.mark.proves("F56/refused")
def test_examine_mask_without_a_picture_is_left_out_with_a_remedy(
    source: Path, examined: Any
) -> None:
    half().save(source / "z-mask.png")
    report = examined()
    assert refusals(report) == {"z-mask.png": "looks like the mask of a picture that is not there"}
    (left_out,) = report.quarantined
    assert "subject.masks=off" in left_out.advice
    assert len(report.accepted) == 3


def test_examine_white_mask_is_no_mask(tmp_path: Path, source: Path, examined: Any) -> None:
    Image.new("L", (SIDE, SIDE), 255).save(source / "a-mask.png")
    report = examined()
    assert [item.mask for item in report.accepted] == ["", "", ""]
    assert '"mask"' not in (tmp_path / "dataset/report.json").read_text()


def test_examine_report_names_masks_of_masked_pictures_alone(
    tmp_path: Path, source: Path, examined: Any
) -> None:
    half().save(source / "b-mask.png")
    report = examined()
    written = json.loads((tmp_path / "dataset/report.json").read_text())
    assert ["mask" in item for item in written["accepted"]] == [False, True, False]
    assert DatasetReport.model_validate(written) == report


@pytest.mark.proves("F56/shown")
def test_validation_page_shows_masked_pictures_and_how_much_is_learnt(
    tmp_path: Path, source: Path, examined: Any
) -> None:
    half().save(source / "a-mask.png")
    report = examined()
    html = render_validation(report, tmp_path / "dataset", subject=SubjectConfig())
    assert html.count("what is not learnt in one colour") == 2  # for the eye, and for readers
    assert "50 % of it is learnt" in html
    assert ">Masks<" in html


def test_validation_page_without_masks_says_nothing_of_them(tmp_path: Path, examined: Any) -> None:
    report = examined()
    html = render_validation(report, tmp_path / "dataset", subject=SubjectConfig())
    assert "learnt in one colour" not in html
    assert ">Masks<" not in html


def test_may_be_transparent_of_what_is_not_a_picture_is_false(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"not a picture")
    assert may_be_transparent(tmp_path / "a.png") is False


@pytest.mark.parametrize(
    ("mode", "name", "settings", "expected"),
    [
        ("RGB", "a.png", {}, False),
        ("RGBA", "a.png", {}, True),
        ("LA", "a.png", {}, True),
        ("P", "a.png", {"transparency": 0}, True),
        ("P", "a.png", {}, False),
        ("RGB", "a.jpg", {}, False),
        ("RGB", "a.webp", {}, False),
        ("RGBA", "a.webp", {}, True),
        ("RGB", "a.bmp", {}, False),
        ("P", "a.gif", {"transparency": 0}, True),
        ("RGBA", "a.tif", {}, True),
    ],
)
def test_may_be_transparent_goes_by_the_head_of_the_file(
    tmp_path: Path, mode: str, name: str, settings: dict[str, Any], expected: bool
) -> None:
    image = Image.new(mode, (16, 16))
    if mode in ("RGBA", "LA"):
        image.putalpha(128)
    image.save(tmp_path / name, **settings)
    assert may_be_transparent(tmp_path / name) is expected
