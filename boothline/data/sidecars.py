"""Sorts what lies next to pictures: caption files by any common name, and files to pass over."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from boothline.data.intake import SourceFile
from boothline.data.naming import stem_of
from boothline.data.spelling import match, spelt_loosely
from boothline.data.tables import NameIndex, is_known, is_table, names_any

_CAPTION_SUFFIXES: Final = (".txt", ".caption")
_ABOUT: Final = frozenset(
    {"readme", "license", "licence", "notice", "copying", "attribution", "credits", "changelog"}
    | {"sources", "about"}
)
_FILMS: Final = frozenset({".mov", ".mp4", ".m4v"})


@dataclass(frozen=True, kw_only=True)
class Captions:
    """Which caption belongs to which picture.

    Attributes:
        files: caption files by the stem that they share with a picture, or by its whole name.
        tables: files that list captions of many pictures.
        orphans: names of caption files that fit no picture.
        unused: (name of a picture, of the file that is used, of one that is not).
    """

    files: dict[str, SourceFile] = field(default_factory=dict)
    tables: tuple[SourceFile, ...] = ()
    orphans: tuple[str, ...] = ()
    unused: tuple[tuple[str, str, str], ...] = ()


def is_about(name: str) -> bool:
    """Tell whether a text is about a whole folder, such as a licence."""
    return PurePosixPath(name).stem.casefold() in _ABOUT


def is_film_of(name: str, stems: frozenset[str]) -> bool:
    """Tell whether a file is the film of a Live Photo: it has the stem of a picture.

    Args:
        name: name of the file.
        stems: stems of the pictures, as `spelt_loosely` gives them.
    """
    is_film = PurePosixPath(name).suffix.lower() in _FILMS
    return is_film and spelt_loosely(stem_of(name)) in stems


def assign(pictures: Sequence[SourceFile], files: Sequence[SourceFile]) -> Captions:
    """Return which caption files belong to which pictures.

    A file belongs to the picture with its stem (`01.txt` to `01.jpg`) or with its whole name before
    the suffix (`01.jpg.txt`). Of several, the one with the whole name is used, then `.txt`.

    Args:
        pictures: the pictures.
        files: all other files.
    """
    names = {picture.name: (picture.name, stem_of(picture.name)) for picture in pictures}
    used: dict[str, SourceFile] = {}
    orphans: list[str] = []
    unused: list[tuple[str, str, str]] = []
    texts = [file for file in files if _is_caption(file.name)]
    for text in sorted(texts, key=lambda file: _rank(file.name, names)):
        base = stem_of(text.name)
        keys = match(base, names) or match(base, dict.fromkeys(stem for _, stem in names.values()))
        free = [key for key in keys if key not in used]
        used.update(dict.fromkeys(free, text))
        unused += [(key, used[key].name, text.name) for key in keys if used[key] is not text]
        if not keys and not is_about(text.name):
            orphans.append(text.name)
    tables, strange = _tables(files, NameIndex(names))
    orphans += strange
    doubled = [
        (name, used[name].name, used[stem].name)
        for name, stem in names.values()
        if name != stem and name in used and stem in used
    ]
    return Captions(
        files=used,
        tables=tuple(tables),
        orphans=tuple(sorted(orphans)),
        unused=(*unused, *doubled),
    )


def _tables(files: Sequence[SourceFile], index: NameIndex) -> tuple[list[SourceFile], list[str]]:
    """Return the tables of captions, and the names of those that fit no picture.

    A table of any name counts where it names a picture. A JSON file that does not is passed over:
    it is a program's own.
    """
    tables: list[SourceFile] = []
    strange: list[str] = []
    for file in files:
        if not is_table(file.name):
            continue
        if is_known(file.name) or names_any(file, index):
            tables.append(file)
        elif not file.name.casefold().endswith(".json"):
            strange.append(file.name)
    return tables, strange


def _is_caption(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in _CAPTION_SUFFIXES


def _rank(name: str, names: dict[str, tuple[str, str]]) -> tuple[int, int, str]:
    """Return the order in which caption files are used: exact names first, `.txt` first."""
    base = stem_of(name)
    is_exact = any(base in pair for pair in names.values())
    kind = _CAPTION_SUFFIXES.index(PurePosixPath(name).suffix.lower())
    return (0 if is_exact else 1, kind, name)
