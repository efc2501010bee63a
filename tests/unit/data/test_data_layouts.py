"""Folders as people have them: a bad item costs itself alone; kohya's layout is understood."""

import json
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from model_fixtures import make_tiny_tokenizer
from PIL import Image

from boothline.config.subject import SubjectConfig
from boothline.data import DatasetReport, examine
from boothline.data.limits import MEBIBYTE, Limits
from boothline.data.sources import collect
from boothline.errors import DataError

SMALL = Limits(max_file_bytes=MEBIBYTE)
TOO_LARGE = bytes(MEBIBYTE + 1)


@pytest.fixture
def source(tmp_path, make_picture) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(3):
        make_picture(seed).save(folder / f"{seed}.png")
    return folder


@pytest.fixture
def examined(tmp_path, no_services):
    def run(images: Path, *, tokenizer: Path | None = None, **settings: object) -> DatasetReport:
        shutil.rmtree(tmp_path / "dataset", ignore_errors=True)
        return examine(
            SubjectConfig(images=str(images), resolution_px=64, **settings),
            output=tmp_path / "dataset",
            settings=no_services,
            tokenizer=tokenizer,
        )

    return run


def _packed(folder: Path, kind: str) -> Path:
    """Return a folder, or an archive of what is in it."""
    if kind == "folder":
        return folder
    path = folder.with_suffix(f".{kind}")
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, file.relative_to(folder))
    else:
        with tarfile.open(path, "w") as archive:
            for file in files:
                archive.add(file, file.relative_to(folder))
    return path


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_collect_file_that_is_too_large_is_left_out_alone(tmp_path, source, no_services, kind):
    (source / "long.bin").write_bytes(TOO_LARGE)
    images = _packed(source, kind)
    scratch = tmp_path / "scratch"
    found = collect(str(images), scratch, settings=no_services, limits=SMALL)
    assert [file.name for file in found.pictures] == ["0.png", "1.png", "2.png"]
    (refusal,) = found.refused
    assert (refusal.name, refusal.reason) == ("long.bin", "is larger than 1 MiB")


def test_collect_zip_that_lies_about_a_size_is_left_out_alone(tmp_path, source, no_services):
    (source / "long.bin").write_bytes(TOO_LARGE)
    path = _packed(source, "zip")
    size = len(TOO_LARGE).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(size, b"\x10\0\0\0"))
    with pytest.raises(DataError, match="damaged"):
        collect(str(path), tmp_path / "scratch", settings=no_services, limits=SMALL)


@pytest.mark.parametrize("ring", [("loop.png",), ("a.png", "b.png"), ("x", "y", "z")])
def test_collect_links_that_form_a_ring_are_left_out(tmp_path, source, no_services, ring):
    for name, target in zip(ring, [*ring[1:], ring[0]], strict=True):
        (source / name).symlink_to(target)
    found = collect(str(source), tmp_path / "scratch", settings=no_services)
    assert [file.name for file in found.pictures] == ["0.png", "1.png", "2.png"]
    assert {(item.name, item.reason) for item in found.refused} == {
        (name, "is a link that leads to itself") for name in ring
    }


def test_collect_link_to_its_own_folder_is_no_picture(tmp_path, source, no_services):
    (source / "all").symlink_to(source)
    found = collect(str(source), tmp_path / "scratch", settings=no_services)
    assert found.ignored_folders == ("all",)


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_examine_passes_over_what_phones_and_computers_write(tmp_path, source, examined, kind):
    (source / "0.AAE").write_text("<plist/>")
    (source / "0.MOV").write_bytes(b"\0\0\0\x14ftypqt  " + bytes(99))
    (source / "1.png:Zone.Identifier").write_text("[ZoneTransfer]")
    (source / "Thumbs.db").write_bytes(b"\xd0\xcf")
    (source / "desktop.ini").write_text("[.ShellClassInfo]")
    for hidden in (".DS_Store", "._0.png"):
        (source / hidden).write_bytes(b"\0")
    report = examined(_packed(source, kind))
    assert (len(report.accepted), report.quarantined, report.warnings) == (3, (), ())
    (remark,) = report.remarks
    assert remark.message == (
        "passed over, as no pictures: 0.AAE, 0.MOV, 1.png:Zone.Identifier, Thumbs.db, desktop.ini"
    )


def test_examine_large_film_of_a_live_photo_is_passed_over(tmp_path, source, no_services):
    (source / "0.mov").write_bytes(TOO_LARGE)
    found = collect(str(source), tmp_path / "scratch", settings=no_services, limits=SMALL)
    assert (found.refused, found.side_files) == ((), ("0.mov",))


def test_examine_film_without_a_picture_is_left_out_by_name(source, examined):
    (source / "film.mp4").write_bytes(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(99))
    (left_out,) = examined(source).quarantined
    assert "is a video" in left_out.reason


@pytest.mark.parametrize(
    ("left", "said", "remedy"),
    [
        (
            2,
            "You have 2 pictures; 3 are needed.",
            "Add 1 more different picture of the subject, or",
        ),
        (
            1,
            "You have 1 picture; 3 are needed.",
            "Add 2 more different pictures of the subject, or",
        ),
    ],
)
def test_too_few_pictures_say_how_many_to_add(source, examined, left, said, remedy):
    for number in range(left, 3):
        (source / f"{number}.png").unlink()
    with pytest.raises(DataError) as caught:
        examined(source).ensure_usable(SubjectConfig())
    assert caught.value.message == said
    assert caught.value.remedy.startswith(f"{remedy} set subject.min_images to {left},")


def test_examine_byte_identical_pictures_are_left_out_and_too_few_are_refused(source, examined):
    for name in "abcd":
        shutil.copy(source / "0.png", source / f"{name}.png")
    assert len(examined(source).accepted) == 3
    for number in (1, 2):
        (source / f"{number}.png").unlink()
    report = examined(source)
    assert len(report.quarantined) == 4
    with pytest.raises(DataError, match="Only 1 of 5 pictures can be used") as caught:
        report.ensure_usable(SubjectConfig())
    assert "or add 2 more different pictures of the subject" in caught.value.remedy
    assert "subject.min_images" in caught.value.remedy


def test_examine_bucket_without_a_picture_is_noted(source, examined):
    report = examined(source, aspect_buckets=("64x64", "96x64"))
    assert len(report.accepted) == 3
    (remark,) = report.remarks
    assert remark.message == "no picture has the shape of the aspect bucket 96x64"


@pytest.fixture
def kohya(tmp_path, make_picture) -> Path:
    root = tmp_path / "set"
    places = {
        "img/10_sks bear": 2, "img/5_sks bear at night": 2, "reg/1_bear": 3, "log": 0,
    }  # fmt: skip
    seed = 0
    for name, count in places.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            seed += 1
            make_picture(seed).save(root / name / f"{number}.png")
    (root / "img/10_sks bear/0.caption").write_text("{subject} on the moon")
    return root


@pytest.mark.proves("F60/kohya")
@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_examine_kohya_layout_is_understood_alike(tmp_path, kohya, examined, kind):
    report = examined(_packed(kohya, kind))
    rows = [
        json.loads(line) for line in (tmp_path / "dataset/captions.jsonl").read_text().splitlines()
    ]
    assert [(row["caption"], row["image"]) for row in rows] == [
        ("sks bear on the moon", "images/000.png"),
        ("sks bear on the moon", "images/000.png"),
        ("a photo of sks bear", "images/001.png"),
        ("a photo of sks bear", "images/001.png"),
        ("sks bear at night", "images/002.png"),
        ("sks bear at night", "images/003.png"),
    ]
    classes = (tmp_path / "dataset/class/captions.jsonl").read_text().splitlines()
    assert [json.loads(line)["caption"] for line in classes] == ["bear"] * 3
    for line in classes:
        with Image.open(tmp_path / "dataset/class" / json.loads(line)["image"]) as image:
            assert (image.size, image.mode) == ((64, 64), "RGB")
    assert "3 pictures in it show the class" in str(report.remarks)
    assert "10 repeats" in str(report.remarks)
    assert len(report.accepted) == 4


def test_examine_long_captions_of_class_pictures_are_warned_about(tmp_path, kohya, examined):
    (kohya / "reg/1_bear/1.txt").write_text("a bear in the snow " * 40)
    found = examined(kohya, tokenizer=make_tiny_tokenizer(tmp_path / "tokenizer"))
    (warning,) = [item for item in found.warnings if "tokens; the text encoder" in item.message]
    assert warning.source == "reg/1_bear/1.png"


def test_examine_kohya_folders_at_the_top_are_understood(tmp_path, kohya, examined):
    report = examined(kohya / "img")
    assert len(report.accepted) == 4
    assert not (tmp_path / "dataset/class").exists()


def test_examine_kohya_folder_of_another_subject_is_warned_about(kohya, examined):
    report = examined(kohya, class_noun="dog")
    found = {item.source for item in report.warnings if "configuration says" in item.message}
    assert found == {"sks bear", "sks bear at night"}


def test_examine_class_pictures_that_teach_nothing_are_left_out(kohya, examined):
    reg = kohya / "reg/1_bear"
    for name in ("black", "black too", "white"):
        colour = "white" if name == "white" else "black"
        Image.new("RGB", (96, 96), colour).save(reg / f"{name}.png")
    left_out = {item.source: item.reason for item in examined(kohya).quarantined}
    assert left_out == {
        f"reg/1_bear/{name}.png": "is of one colour all over"
        for name in ("black", "black too", "white")
    }
    for path in reg.glob("[0-9].png"):
        path.unlink()
    with pytest.raises(DataError, match="None of 3 class pictures can be used") as caught:
        examined(kohya)
    assert caught.value.exit_code == 3


def test_collect_other_subfolders_stay_unread(tmp_path, source, no_services):
    (source / "more").mkdir()
    (source / "2024_summer").mkdir()
    os.link(source / "0.png", source / "more" / "x.png")
    found = collect(str(source), tmp_path / "scratch", settings=no_services)
    assert found.ignored_folders == ("2024_summer", "more")


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
@pytest.mark.parametrize("name", ["reg", "class_images", "Regularization_Images"])
def test_examine_class_folder_without_repeats_is_understood_alike(
    tmp_path, source, examined, make_picture, kind, name
):
    (source / name).mkdir()
    for seed in range(2):
        make_picture(20 + seed).save(source / name / f"{seed}.png")
    report = examined(_packed(source, kind))
    assert [item.source for item in report.accepted] == ["0.png", "1.png", "2.png"]
    lines = (tmp_path / "dataset/class/captions.jsonl").read_text().splitlines()
    assert [json.loads(line)["caption"] for line in lines] == ["a photo of a bear"] * 2


def test_examine_pictures_in_a_folder_of_a_class_s_name_alone_are_the_subject_s(
    tmp_path, source, examined
):
    (tmp_path / "set").mkdir()
    source.rename(tmp_path / "set/class")
    report = examined(_packed(tmp_path / "set", "zip"))
    assert [item.source for item in report.accepted] == [f"class/{n}.png" for n in range(3)]
    with pytest.raises(DataError, match="holds no pictures"):
        examined(tmp_path / "set")


def test_examine_link_to_nothing_is_named(source, examined):
    (source / "gone.png").symlink_to("nowhere.png")
    (left_out,) = examined(source).quarantined
    assert (left_out.source, left_out.reason) == (
        "gone.png",
        "is a link to a file that does not exist",
    )
