"""Folders of different subjects get different names; plain names stay as they are."""

import re
import unicodedata
from itertools import combinations
from pathlib import Path

import pytest
from command_line import boothline
from PIL import Image

from boothline.cli.naming import subject_name
from boothline.config.subject import SubjectConfig

VALID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
APART = (
    ("dog/photos", "cat/photos"),
    ("dog/2024/photos", "cat/2024/photos"),
    ("dog/001", "cat/001"),
    ("dog/My Photos", "cat/My Photos"),
    ("dog/new folder", "cat/new folder"),
    ("dog/512x512", "cat/512x512"),
    ("dog/100APPLE", "cat/100APPLE"),
    ("dog/photos.zip", "cat/photos.zip"),
    ("dog/Bilder", "cat/Bilder"),
    ("dog/___", "cat/___"),
    ("dog/Fotografías", "cat/Fotografías"),
    ("犬", "猫"),
    ("犬/写真", "猫/写真"),
    ("犬/photos", "猫/photos"),
    ("犬1", "猫1"),
    ("my 犬", "my 猫"),
    ("собака", "кошка"),
    ("собака/фото", "кошка/фото"),
    ("كلب", "قطة"),
    ("Bär", "Bör"),
    ("Bär", "Bar"),
    ("naïve", "naive"),
    ("🐶", "🐱"),
    ("🐶 photos", "🐱 photos"),
    ("C++", "C"),
    ("a" * 70 + "1", "a" * 70 + "2"),
    ("犬" * 80 + "1", "犬" * 80 + "2"),
    ("dog" + "/photos" * 12, "cat" + "/photos" * 12),
)


@pytest.mark.parametrize(("one", "other"), APART)
def test_subject_name_of_different_folders_differs(one: str, other: str, tmp_path: Path) -> None:
    names = [subject_name(tmp_path / folder) for folder in (one, other)]
    assert names[0] != names[1]
    for name in names:
        assert VALID.fullmatch(name), name
        assert SubjectConfig(name=name).name == name


@pytest.mark.proves("F70/names")
def test_subject_name_of_all_these_folders_differs(tmp_path: Path) -> None:
    folders = {folder for pair in APART for folder in pair}
    names = {folder: subject_name(tmp_path / folder) for folder in folders}
    same = [pair for pair in combinations(names, 2) if names[pair[0]] == names[pair[1]]]
    assert not same


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("teddy-bear", "teddy-bear"),
        ("Teddy Bear", "teddy-bear"),
        ("My Mug", "my-mug"),
        ("10_sks dog", "10-sks-dog"),
        ("dog/Rex (1)", "rex-1"),
        ("rex_photos", "rex-photos"),
        ("camera", "camera"),
    ],
)
def test_subject_name_plain_is_kept(folder: str, name: str, tmp_path: Path) -> None:
    assert subject_name(tmp_path / folder) == name


@pytest.mark.parametrize(
    ("folder", "pattern"),
    [
        ("dog/photos", "dog-photos"),
        ("dog/2024/photos", "dog-2024-photos"),
        ("Bär", "bar-[0-9a-f]{6}"),
        ("Straße", "strasse-[0-9a-f]{6}"),
        ("犬", "subject-[0-9a-f]{6}"),
        ("犬/photos", "subject-[0-9a-f]{6}-photos"),
    ],
)
def test_subject_name_can_be_read(folder: str, pattern: str, tmp_path: Path) -> None:
    assert re.fullmatch(pattern, subject_name(tmp_path / folder))


def test_subject_name_is_the_same_however_a_file_system_composes_letters() -> None:
    composed, decomposed = (
        subject_name(Path("/") / unicodedata.normalize(form, "Bär")) for form in ("NFC", "NFD")
    )
    assert composed == decomposed


@pytest.mark.parametrize("folder", ["/", "/photos", "/data/images"])
def test_subject_name_at_the_root_is_valid(folder: str) -> None:
    assert VALID.fullmatch(subject_name(Path(folder)))


@pytest.mark.proves("F70/names")
def test_init_two_folders_of_one_name_names_two_models(tmp_path: Path) -> None:
    written = []
    for number, animal in enumerate(("dog", "cat")):
        folder = tmp_path / animal / "photos"
        folder.mkdir(parents=True)
        for shade in range(3):
            Image.effect_noise((160, 120), 40.0 + 20 * shade).save(folder / f"{shade}.png")
        file = f"run{number}.yaml"
        code, _, said = boothline(
            tmp_path, "init", f"{animal}/photos", "--class-noun", animal, "-o", file
        )
        assert code == 0, said
        written.append((tmp_path / file).read_text())
    assert 'name: "dog-photos"' in written[0]
    assert 'name: "cat-photos"' in written[1]
