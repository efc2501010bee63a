"""Captions as other programs write them: each kind is read, or is warned of."""

import json
from pathlib import Path

import pytest

from boothline.data.captions import CaptionBook
from boothline.data.sources import collect
from boothline.errors import DataError
from boothline.settings import Settings

BOTH = {"a.png": "red A", "b.png": "blue B"}


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def pair(name: str, text: str, first: object = "a.png", second: object = "b.png") -> str:
    return lines({name: first, text: "red A"}, {name: second, text: "blue B"})


COCO = {
    "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],
    "annotations": [
        {"image_id": 2, "caption": "blue B"},
        {"image_id": 1, "caption": "red A"},
        {"image_id": 1, "caption": "another"},
    ],
}
TABLES = {
    "nul-padded": {"a.txt": "red A\0\0\0", "b.txt": "blue B"},
    **{
        f"ending-{ending}": {f"a{ending}": "red A", f"b{ending}": "blue B"}
        for ending in (
            ".caption.txt", "_caption.txt", "-captions.txt", ".tags", ".cap", ".prompt",
            ".captions", ".tags.txt",
        )
    },
    "long-caption": {
        "a.json": json.dumps({"long_caption": "red A"}),
        "b.json": json.dumps({"description": "blue B"}),
    },
    "takeout": {
        "a.png.supplemental-metadata.json": json.dumps({"title": "a.png", "description": "red A"}),
        "b.png.json": json.dumps({"title": "b.png", "description": "blue B"}),
    },
    "id": {"data.jsonl": pair("id", "caption", "a", "b")},
    "target": {"metadata.jsonl": pair("target", "prompt")},
    "media-path": {"metadata.jsonl": pair("media_path", "caption")},
    "nested": {"metadata.jsonl": pair("image", "text", {"path": "a.png"}, {"file_name": "b.png"})},
    "ndjson": {"metadata.ndjson": pair("file_name", "text")},
    "excel": {"captions.csv": "sep=;\r\nfile_name;text\r\na.png;red A\r\nb.png;blue B\r\n"},
    "flickr-cells": {"r.csv": "image_name| number| comment\na.png| 0| red A\nb.png| 0| blue B\n"},
    "flickr-list": {"captions.txt": "a.png#0\tred A\nb.png#0\tblue B\n"},
    "text-list": {"captions.txt": "a.png,red A\nb.png,blue B\n"},
    "coco": {"captions.json": json.dumps(COCO)},
    "pairs": {"captions.json": json.dumps([["a.png", "red A"], ["b.png", "blue B"]])},
    "wrapped-list": {"d.json": json.dumps({"data": [{"image": "a.png", "caption": "red A"},
                                                    {"image": "b.png", "caption": "blue B"}]})},
    "wrapped-names": {"d.json": json.dumps({"version": 1, "captions": BOTH})},
    "other-suffix": {"metadata.csv": "file_name,text\na.jpg,red A\nb.webp,blue B\n"},
}  # fmt: skip


def book_of(files: dict[str, str | bytes], folder: Path, *names: str) -> CaptionBook:
    source = folder / "in"
    source.mkdir()
    for name in names or tuple(BOTH):
        (source / name).write_bytes(name.encode())
    for name, text in files.items():
        (source / name).write_bytes(text.encode() if isinstance(text, str) else text)
    found = collect(str(source), folder / "scratch", settings=Settings())
    pictures = [picture.name for picture in found.pictures]
    assert pictures == sorted(names or BOTH)
    return CaptionBook.of(found.caption_index, names=pictures)


@pytest.mark.parametrize("kind", TABLES)
def test_caption_book_reads_what_other_programs_write(tmp_path: Path, kind: str) -> None:
    book = book_of(TABLES[kind], tmp_path)
    assert {name: book.text_of(name) for name in BOTH} == BOTH


@pytest.mark.parametrize("header", ["file_name,text\n", ""])
def test_caption_book_keeps_a_text_with_commas_whole(tmp_path: Path, header: str) -> None:
    book = book_of({"captions.csv": f"{header}a.png,red A, with a hat, smiling\n"}, tmp_path)
    assert book.text_of("a.png") == "red A, with a hat, smiling"


def test_caption_book_reads_names_as_web_addresses_spell_them(tmp_path: Path) -> None:
    row = lines({"file_name": "a%20x.png", "text": "red A"})
    assert book_of({"metadata.jsonl": row}, tmp_path, "a x.png").text_of("a x.png") == "red A"


@pytest.mark.parametrize(
    "name", ["a.md", "a.yaml", "a.xml", "captions.yaml", "captions.toml", "metadata.yml"]
)
def test_caption_book_warns_of_texts_that_are_not_read(tmp_path: Path, name: str) -> None:
    book = book_of({name: "a.png: red A\n"}, tmp_path)
    assert [warning.source for warning in book.warnings] == [name]
    assert "not read as a caption" in book.warnings[0].message


def test_caption_book_passes_over_texts_about_something_else(tmp_path: Path) -> None:
    files = {"README.md": "x", "config.yaml": "a: 1\n", "dataset_info.json": '{"description": "x"}'}
    book = book_of(files, tmp_path)
    assert book.warnings == []
    assert book.text_of("a.png") is None


def test_caption_book_refuses_a_table_in_another_encoding(tmp_path: Path) -> None:
    cells = "file_name,text\na.png,café\nb.png,blue B\n".encode("cp1252")
    book = book_of({"captions.csv": cells}, tmp_path)
    with pytest.raises(DataError, match="neither UTF-8 nor UTF-16"):
        book.text_of("a.png")
    assert book.text_of("b.png") == "blue B"
