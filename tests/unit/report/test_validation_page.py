"""The page on a subject's pictures: every check with a verdict, repeats side by side."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from boothline.config.subject import SubjectConfig
from boothline.data.examination import examine
from boothline.data.report import DatasetReport
from boothline.report.validation import render_validation
from boothline.settings import Settings

TIMES = "\N{MULTIPLICATION SIGN}"
HOSTILE = "<img src=x onerror=alert(1)>.png"


def _picture(seed: int, side: int = 96) -> Image.Image:
    blocks = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((side, side), Image.Resampling.NEAREST)


def examined(folder: Path, output: Path, **subject: object) -> DatasetReport:
    return examine(
        SubjectConfig(images=str(folder), resolution_px=64, **subject),
        output=output,
        settings=Settings(run_dir=None),
    )


@pytest.fixture
def troubled(tmp_path: Path) -> Path:
    """Three good pictures and one of every kind of trouble."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(3):
        _picture(seed).save(folder / f"good-{seed}.png")
    _picture(0).save(folder / "same.bmp")
    _picture(1).point(lambda level: min(255, level + 4)).save(folder / "nearly.png")
    _picture(5, side=20).save(folder / "tiny.png")
    _picture(6).filter(ImageFilter.GaussianBlur(12)).save(folder / "blurred.png")
    (folder / HOSTILE).write_bytes(b"no picture at all")
    return folder


@pytest.mark.proves("F39/page")
def test_validation_page_gives_each_check_its_verdict_and_remedy(troubled, tmp_path) -> None:
    report = examined(troubled, tmp_path / "out")

    html = render_validation(report, tmp_path / "out", subject=SubjectConfig())

    marks = re.findall(r'<li class="(passed|warned|broken)">', html)
    titles = re.findall(r'<h3>(?:<a href="#check-\w+">)?([\w ]+)', html)
    verdicts = dict(zip(titles, marks, strict=True))
    assert verdicts == {
        "Files": "passed",
        "Readable": "broken",
        "Large enough": "broken",
        "Shape": "passed",
        "Sharp": "warned",
        "Different": "broken",
        "Captions": "passed",
        "Identifier": "passed",
        "Number": "passed",
    }
    assert "Usable, with remarks" in html
    for finding in (*report.quarantined, *report.warnings):
        assert finding.advice in html


def test_validation_page_puts_repeats_beside_what_they_repeat(troubled, tmp_path) -> None:
    report = examined(troubled, tmp_path / "out")

    html = render_validation(report, tmp_path / "out", subject=SubjectConfig())

    for pair in ("same.bmp good-0.png", "nearly.png good-1.png"):
        tiles = re.findall(rf'data-twin="{re.escape(pair)}"', html)
        assert len(tiles) == 2, pair


def test_validation_page_escapes_names_and_runs_only_its_own_script(troubled, tmp_path) -> None:
    report = examined(troubled, tmp_path / "out")

    html = render_validation(report, tmp_path / "out", subject=SubjectConfig())

    assert "<img src=x" not in html
    assert html.count("<script>") == 1
    assert "default-src 'none'" in html
    assert all(source.startswith("data:") for source in re.findall(r'<img src="([^"]*)', html))


def test_validation_page_of_too_few_pictures_says_so_first(troubled, tmp_path) -> None:
    report = examined(troubled, tmp_path / "out")

    html = render_validation(report, tmp_path / "out", subject=SubjectConfig(min_images=9))

    assert "Only 5 of 8 pictures can be used" in html
    assert "At least 9 are needed" in html


def test_validation_page_of_good_pictures_is_all_well(tmp_path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(3):
        _picture(seed).save(folder / f"{seed}.png")
    report = examined(folder, tmp_path / "out")

    html = render_validation(report, tmp_path / "out", subject=SubjectConfig())

    assert "All is well" in html
    assert html.count('<li class="passed">') == 9
    assert 'class="quarantine"' not in html


def test_validation_page_without_a_thumbnail_is_still_written(troubled, tmp_path, caplog) -> None:
    report = examined(troubled, tmp_path / "out")
    (tmp_path / "out" / report.accepted[0].thumbnail).unlink()

    html = render_validation(report, tmp_path / "out", subject=SubjectConfig())

    assert "cannot be shown" in caplog.text
    assert report.accepted[1].source in html


def test_validation_page_tells_the_size_that_each_shape_is_trained_at(tmp_path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, size in enumerate(((96, 96), (144, 96), (150, 100), (100, 150))):
        _picture(number).resize(size).save(folder / f"{number}.png")
    buckets = ("64x64", "96x64", "64x96")
    report = examined(folder, tmp_path / "out", aspect_buckets=buckets)

    mixed, square = (
        render_validation(report, tmp_path / "out", subject=subject).replace(TIMES, "x")
        for subject in (SubjectConfig(aspect_buckets=buckets), SubjectConfig())
    )

    assert "1 at 64 x 64, 2 at 96 x 64, 1 at 64 x 96 pixels" in mixed
    assert "PNG, 150 x 100 cut to 96 x 64, sharpness" in mixed
    assert "square" not in mixed
    assert "Trained at 64 x 64 pixels." in square
    assert "cut to 64" not in square
    # Thumbnails keep the shape of the picture.
    assert 'width="100" height="150"' in mixed
