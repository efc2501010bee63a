"""Reads tables of captions as other trainers write them: JSON, JSON lines, and cells."""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import StringIO
from pathlib import PurePosixPath
from typing import Final, NamedTuple
from urllib.parse import unquote

from boothline.data.intake import SourceFile
from boothline.data.naming import SPELLINGS, decoded, stem_of

TABLE_SUFFIXES: Final = (".jsonl", ".ndjson", ".csv", ".tsv", ".json")
KNOWN_TABLES: Final = frozenset(
    {"metadata.jsonl", "metadata.csv", "captions.jsonl", "captions.csv"}
    | {"metadata.tsv", "captions.tsv"}
)
"""Tables whose rows are reported where they fit no picture, whatever they say."""
_MAX_BYTES: Final = 16 * 2**20
_MAX_JSON_BYTES: Final = 4 * 2**20  # it is parsed as a whole
_NAMES: Final = (
    "file_name", "filename", "image", "file", "path", "image_path", "img_path", "image_file",
    "image_name", "file_path", "filepath", "img", "images", "target", "media_path", "media", "id",
)  # fmt: skip
_TEXTS: Final = ("text", "caption", "prompt", "long_caption", "description", "comment")
_TEXTS_OF_ONE: Final = (*_TEXTS, "tags")
_DELIMITERS: Final = ",;\t|"
_WRAPPERS: Final = frozenset({"data", "captions", "items", "rows", "samples", "images"})
_SEPARATOR: Final = re.compile(r"\s*sep=(.)\r?\n")  # how Excel names what parts the cells
_COPY_NUMBER: Final = re.compile(r"#\d+$")  # of the captions of one picture in Flickr's lists


class Row(NamedTuple):
    """One row: the pictures that it names, and what it says of them.

    Attributes:
        name: of the picture, as it is written; empty: the row cannot be read.
        text: the caption.
    """

    name: str = ""
    text: str = ""


class NameIndex:
    """Finds pictures by what a table calls them.

    Args:
        names: of the pictures.
    """

    def __init__(self, names: Iterable[str]) -> None:
        listed = list(names)
        views: tuple[Callable[[str], str], ...] = (
            str,
            stem_of,
            lambda name: PurePosixPath(name).name,
            lambda name: PurePosixPath(stem_of(name)).name,
        )
        self._by_name: list[dict[str, list[str]]] = []
        for view in views:
            for spelt in SPELLINGS:
                found: dict[str, list[str]] = {}
                for name in listed:
                    found.setdefault(spelt(view(name)), []).append(name)
                self._by_name.append(found)

    def find(self, name: str, *, folder: PurePosixPath) -> list[str]:
        """Return the pictures of a name, in the strictest way that finds any.

        A name counts as it stands, below the table's folder; then without its suffix, then without
        folders, which are those of another machine; then as a web address spells it, and with
        another suffix, as pictures have that were converted.
        """
        numberless = _COPY_NUMBER.sub("", name)
        for spelling in dict.fromkeys((name, numberless, unquote(name), stem_of(numberless))):
            if found := self._find(spelling, folder=folder):
                return found
        return []

    def _find(self, name: str, *, folder: PurePosixPath) -> list[str]:
        plain = name.replace("\\", "/")
        full, last = str(folder / plain), PurePosixPath(plain).name
        for number, found in enumerate(self._by_name):
            wanted = full if number < 2 * len(SPELLINGS) else last
            if hits := found.get(SPELLINGS[number % len(SPELLINGS)](wanted)):
                return hits
        return []


def is_table(name: str) -> bool:
    """Return whether a file may list captions, by its suffix."""
    return PurePosixPath(name).suffix.casefold() in TABLE_SUFFIXES


def is_known(name: str) -> bool:
    """Return whether a file is a table of captions by its very name."""
    return PurePosixPath(name).name.casefold() in KNOWN_TABLES


def names_any(table: SourceFile, index: NameIndex) -> bool:
    """Return whether a row of a table names a picture."""
    folder = PurePosixPath(table.name).parent
    return any(row.name and index.find(row.name, folder=folder) for row in rows_of(table, index))


def rows_of(table: SourceFile, index: NameIndex) -> Iterator[Row]:
    """Yield the rows of a table; one that cannot be read is an empty one."""
    suffix = PurePosixPath(table.name).suffix.casefold()
    with table.path.open("rb") as stream:
        most_bytes = _MAX_JSON_BYTES if suffix == ".json" else _MAX_BYTES
        text = decoded(stream.read(most_bytes), errors="replace")
    if suffix in (".jsonl", ".ndjson"):
        lines = (line for line in text.split("\n") if line.strip())
        yield from (_row(_loaded(line)) for line in lines)
    elif suffix == ".json":
        yield from _json_rows(_loaded(text), table.name)
    else:
        yield from _cell_rows(text, index, folder=PurePosixPath(table.name).parent)


def _loaded(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _json_rows(value: object, name: str) -> Iterator[Row]:
    """Yield the rows of a JSON file: a list of them, names with what is said, or of one picture."""
    if isinstance(value, list):
        yield from (_row(item) for item in value)
    elif isinstance(value, dict) and (rows := _annotated(value)):
        yield from rows
    elif isinstance(value, dict) and (text := _text_of_one(value)):
        yield Row(PurePosixPath(stem_of(name)).name, text)
    elif isinstance(value, dict):
        for key, item in value.items():
            text = item if isinstance(item, str) else _text_of_one(item)
            if text:
                yield Row(str(key), text)
            elif key in _WRAPPERS and isinstance(item, dict | list):
                yield from _json_rows(item, name)


def _annotated(value: Mapping[str, object]) -> list[Row]:
    """Return the rows of a JSON file as COCO writes it: pictures, and texts by their numbers."""
    images, annotations = value.get("images"), value.get("annotations")
    if not isinstance(images, list) or not isinstance(annotations, list):
        return []
    names = {
        str(image.get("id")): str(image.get("file_name", ""))
        for image in images
        if isinstance(image, dict)
    }
    first: dict[str, str] = {}
    for each in annotations:
        if isinstance(each, dict) and (text := _text_of_one(each)):
            first.setdefault(names.get(str(each.get("image_id")), ""), text)
    return [Row(name, text) for name, text in first.items()]


def _text_of_one(item: object) -> str:
    """Return what is said of one picture; tags may be a list."""
    if not isinstance(item, dict):
        return ""
    for key in _TEXTS_OF_ONE:
        value = item.get(key)
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, list) and value and all(isinstance(word, str) for word in value):
            return ", ".join(value) if key == "tags" else str(value[0])
    return ""


def _cell_rows(text: str, index: NameIndex, *, folder: PurePosixPath) -> Iterator[Row]:
    """Yield the rows of cells, whatever parts them and whether their columns are named."""
    if found := _SEPARATOR.match(text):
        text = text[found.end() :]
    for delimiter in _DELIMITERS:
        header = next(iter(_cells(text, delimiter)), [])
        columns = [cell.strip().casefold() for cell in header]
        if len(columns) > 1 and not set(columns).isdisjoint(_NAMES):
            rows = _cells(text, delimiter)
            next(rows)
            for cells in rows:
                whole = _rejoined(cells, len(columns), delimiter)
                yield _row(dict(zip(columns, whole, strict=False)))
            return
    for delimiter in _DELIMITERS:
        first = next(iter(_cells(text, delimiter)), [])
        if len(first) > 1 and index.find(first[0], folder=folder):
            for cells in _cells(text, delimiter):
                yield Row(*_rejoined(cells, 2, delimiter)) if len(cells) > 1 else Row()
            return
    yield from (Row() for _ in _cells(text, ","))


def _rejoined(cells: list[str], number: int, delimiter: str) -> list[str]:
    """Return so many cells: a text at the end that was not quoted may hold the delimiter."""
    if len(cells) <= number:
        return cells
    return [*cells[: number - 1], delimiter.join(cells[number - 1 :])]


def _cells(text: str, delimiter: str) -> Iterator[list[str]]:
    """Yield the lines that are not empty as cells; one that is none ends them with an empty row."""
    try:
        for cells in csv.reader(StringIO(text, newline=""), delimiter=delimiter):
            if cells:
                yield cells
    except csv.Error:
        yield []


def _row(value: object) -> Row:
    """Return the file name and the text of a row of named values."""
    if isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value):
        return Row(*value)
    if not isinstance(value, Mapping):
        return Row()
    texts = {
        str(key).strip().casefold(): item
        for key, given in value.items()
        if key and isinstance(item := _first(given), str)
    }
    name_key = next((key for key in _NAMES if texts.get(key)), None)
    if name_key is None:
        return Row()
    others = [key for key in texts if key != name_key]
    named = [key for key in _TEXTS if key in others]
    candidates = named or (others if len(others) == 1 else [])
    return Row(texts[name_key], texts[candidates[0]]) if candidates else Row()


def _first(value: object) -> object:
    """Return a value, or the first of several: the captions of one picture, say."""
    if isinstance(value, Mapping):  # a picture with its place, as libraries of data sets write it
        return value.get("path") or value.get("file_name")
    return value[0] if isinstance(value, list) and value else value
