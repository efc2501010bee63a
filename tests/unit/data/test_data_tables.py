"""Captions in the encodings and tables of other programs: all are read, or named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from boothline.config.subject import SubjectConfig
from boothline.data import DatasetReport, collect, examine
from boothline.settings import Settings

TEXT = "a {subject} as a zebra"
READ = "a sks bear as a zebra"
PLAIN = "a photo of sks bear"
Examined = Callable[..., DatasetReport]


@pytest.fixture
def source(tmp_path: Path, make_picture: Callable[[int], object]) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(3):
        make_picture(seed).save(folder / f"{seed}.png")  # type: ignore[attr-defined]
    return folder


@pytest.fixture
def captions(tmp_path: Path, source: Path, no_services: Settings) -> Callable[[], list[str]]:
    """Examines the pictures; gives their captions and the warnings about captions."""

    def run() -> list[str]:
        shutil.rmtree(tmp_path / "dataset", ignore_errors=True)
        report = examine(
            SubjectConfig(images=str(source), resolution_px=64),
            output=tmp_path / "dataset",
            settings=no_services,
        )
        said = [f"{w.source}: {w.message}" for w in report.warnings if w.check == "caption"]
        return [*(image.caption for image in report.accepted), *said]

    return run


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        b"\xfe\xff" + TEXT.encode("utf-16-be"),
        TEXT.encode("utf-16-le"),
        TEXT.encode("utf-16-be"),
        TEXT.encode("utf-32"),
        TEXT.replace(" ", "\r\n", 1).encode(),
        TEXT.replace(" ", "\r", 1).encode(),
    ],
    ids=["bom-8", "16", "bom-16-be", "16-le", "16-be", "32", "crlf", "cr"],
)
def test_caption_in_an_encoding_of_windows_is_read(
    source: Path, captions: Callable[[], list[str]], data: bytes
) -> None:
    (source / "0.txt").write_bytes(data)
    assert captions() == [READ, PLAIN, PLAIN]


@pytest.mark.parametrize(
    "data", ["möwe".encode("latin-1"), "犬".encode("shift-jis"), b"a\0b c", b"\xff\xfea"]
)
def test_caption_in_another_encoding_is_named(
    source: Path, captions: Callable[[], list[str]], data: bytes
) -> None:
    (source / "0.txt").write_bytes(data)
    *found, said = captions()
    assert found == [PLAIN] * 3
    assert said.startswith("0.png: has a caption")


def rows(name: str, text: str) -> str:
    return json.dumps({name: "0.png", text: TEXT})


TABLES: dict[str, tuple[str, str]] = {
    **{f"names-{n}": ("metadata.jsonl", rows(n, "text")) for n in ("image_path", "img", "Image")},
    **{f"text-{n}": ("metadata.jsonl", rows("file_name", n)) for n in ("blip", "Caption", "en")},
    "several": ("metadata.jsonl", json.dumps({"file_name": "0.png", "text": [TEXT, "other"]})),
    "windows": ("metadata.jsonl", json.dumps({"file_name": "x\\0.png", "text": TEXT})),
    "absolute": ("metadata.jsonl", json.dumps({"file_name": "/data/0.png", "text": TEXT})),
    "stem": ("metadata.jsonl", json.dumps({"file_name": "0", "text": TEXT})),
    "other-name": ("train.jsonl", rows("file_name", "text")),
    "semicolon": ("metadata.csv", f"file_name;text\n0.png;{TEXT}\n"),
    "tab": ("metadata.csv", f"file_name\ttext\n0.png\t{TEXT}\n"),
    "tsv": ("captions.tsv", f"image\tcaption\n0.png\t{TEXT}\n"),
    "upper": ("metadata.csv", f"File_Name , Text\r\n0.png,{TEXT}\r\n"),
    "headless": ("list.csv", f"0.png,{TEXT}\n9.png,no picture\n"),
    "dict": ("metadata.json", json.dumps({"0.png": TEXT, "9": "no picture"})),
    "kohya": ("meta_cap.json", json.dumps({"/train/0": {"caption": TEXT, "tags": "x"}})),
    "kohya-tags": ("meta_lat.json", json.dumps({"0": {"tags": TEXT}})),
    "list": ("data.json", json.dumps([{"file_name": "0.png", "text": TEXT}])),
    "of-one": ("0.json", json.dumps({"caption": TEXT, "seed": 3})),
    "of-one-whole": ("0.png.json", json.dumps({"tags": TEXT.split(", ")})),
}


@pytest.mark.proves("F60/captions")
@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_table_of_another_program_is_read(
    source: Path, captions: Callable[[], list[str]], name: str, encoding: str
) -> None:
    file, text = TABLES[name]
    (source / file).write_bytes(text.encode(encoding))
    found = captions()
    assert found[:3] == [READ, PLAIN, PLAIN]
    assert len(found) == 3 + ("no picture" in text)


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("metadata.jsonl", '{"a": 1}\nnot json\n', "row 2 has no file name and text"),
        ("metadata.csv", "a,b\n1,2\n", "row 1 has no file name and text"),
        ("other.csv", "a,b\n1,2\n", "is a caption that fits no picture"),
        ("other.jsonl", rows("file_name", "text").replace("0.png", "9.png"), "fits no picture"),
        ("other.tsv", "", "is a caption that fits no picture"),
    ],
)
def test_table_that_fits_no_picture_is_named(
    source: Path, captions: Callable[[], list[str]], file: str, text: str, said: str
) -> None:
    (source / file).write_text(text)
    found = captions()
    assert found[:3] == [PLAIN] * 3
    assert any(line.startswith(f"{file}: ") and said in line for line in found[3:])


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("config.json", '{"text": {"model": 1}, "images": []}'),
        ("0.png.json", '{"title": "0.png", "description": "", "photoTakenTime": {"timestamp": 1}}'),
        ("deep.json", "[" * 100_000),
        ("cut.json", '{"0.png": "a'),
        ("empty.json", ""),
    ],
)
def test_json_of_a_program_is_passed_over_and_changes_no_key(
    tmp_path: Path,
    source: Path,
    captions: Callable[[], list[str]],
    no_services: Settings,
    file: str,
    text: str,
) -> None:
    before = collect(str(source), tmp_path / "1", settings=no_services).fingerprint()
    (source / file).write_text(text)
    assert captions() == [PLAIN] * 3
    assert collect(str(source), tmp_path / "2", settings=no_services).fingerprint() == before


def test_caption_file_comes_before_a_table_and_the_table_is_named(
    source: Path, captions: Callable[[], list[str]]
) -> None:
    (source / "0.txt").write_text(TEXT)
    (source / "0.json").write_text(json.dumps({"caption": "another"}))
    *found, said = captions()
    assert found == [READ, PLAIN, PLAIN]
    assert said == "0.png: has captions in two places; 0.txt is used, 0.json not"
