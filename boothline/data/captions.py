"""Captions: texts and tables next to pictures, read with suspicion, and what they must say."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, Self

from boothline.config.section import SUBJECT_FIELD
from boothline.config.subject import SubjectConfig
from boothline.data.intake import SourceFile
from boothline.data.naming import decoded, match, shown_name, spelt_loosely, stem_of
from boothline.data.report import DatasetWarning
from boothline.data.tables import NameIndex, is_known, is_table, names_any, rows_of
from boothline.errors import DataError

_CAPTION_SUFFIXES: Final = (".txt", ".caption", ".captions", ".cap", ".tags", ".prompt")
_CAPTION_ENDING: Final = re.compile(r"[._-](captions?|tags|prompt)$", re.IGNORECASE)
_NOT_READ: Final = frozenset({".md", ".rst", ".yaml", ".yml", ".toml", ".xml"})
_TITLES: Final = frozenset({"caption", "captions", "metadata", "prompts"})
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
    """Return whether a text is about a whole folder, such as a licence."""
    return PurePosixPath(name).stem.casefold() in _ABOUT


def is_film_of(name: str, stems: frozenset[str]) -> bool:
    """Return whether a file is the film of a Live Photo: it has the stem of a picture.

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
    index, listing = NameIndex(names), []
    stems = dict.fromkeys(stem for _, stem in names.values())
    for text in sorted(texts, key=lambda file: _rank(file.name, names)):
        base = stem_of(text.name)
        plain = _CAPTION_ENDING.sub("", base)
        keys = (
            match(base, names) or match(base, stems) or match(plain, names) or match(plain, stems)
        )
        free = [key for key in keys if key not in used]
        used.update(dict.fromkeys(free, text))
        unused += [(key, used[key].name, text.name) for key in keys if used[key] is not text]
        if not keys and names_any(text, index):
            listing.append(text)
        elif not keys and not is_about(text.name):
            orphans.append(text.name)
    tables, strange = _tables(files, index)
    tables += listing
    orphans += [*strange, *(file.name for file in files if _looks_like_captions(file.name, stems))]
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


def _looks_like_captions(name: str, stems: Mapping[str, None]) -> bool:
    """Return whether a text of a kind that is not read stands where a caption would."""
    pure = PurePosixPath(name)
    return pure.suffix.casefold() in _NOT_READ and (
        bool(match(stem_of(name), stems)) or pure.stem.casefold() in _TITLES
    )


def _is_caption(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in _CAPTION_SUFFIXES


def _rank(name: str, names: dict[str, tuple[str, str]]) -> tuple[int, int, str]:
    """Return the order in which caption files are used: exact names first, `.txt` first."""
    base = stem_of(name)
    is_exact = any(base in pair for pair in names.values())
    kind = _CAPTION_SUFFIXES.index(PurePosixPath(name).suffix.lower())
    return (0 if is_exact else 1, kind, name)


MAX_CAPTION_CHARACTERS: Final = 4000
_MAX_CAPTION_BYTES: Final = 64 * 1024
_MAX_ROW_WARNINGS: Final = 20
_DIRECTIONS: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_ADVICE: Final = "Write one line of plain UTF-8 text."


def read_caption(path: Path) -> str:
    """Return the text of a caption file on one line; what is beyond measure is cut off.

    Raises:
        DataError: it is empty, not UTF-8, or has control characters; the message reads on from the
            file's name.
    """
    with path.open("rb") as stream:
        data = stream.read(_MAX_CAPTION_BYTES)
        is_whole = not stream.read(1)
    try:
        text = decoded(data, errors="strict" if is_whole else "ignore")
    except UnicodeDecodeError as error:
        raise DataError(
            "has a caption file that is neither UTF-8 nor UTF-16 text", remedy=_ADVICE
        ) from error
    return clean_caption(text)[:MAX_CAPTION_CHARACTERS]


def clean_caption(text: str) -> str:
    """Return a caption on one line.

    Characters without width (which join emoji and letters) stay. What could make a terminal or a
    reader see another text is refused: control characters, and those that turn the direction.

    Raises:
        DataError: it is empty, or has such characters.
    """
    line = " ".join(text.rstrip("\0").split())
    if "\ufffd" in line:
        raise DataError("has a caption that is neither UTF-8 nor UTF-16 text", remedy=_ADVICE)
    if not line:
        raise DataError("has an empty caption file", remedy=_ADVICE)
    if any(unicodedata.category(c) in ("Cc", "Cs") or c in _DIRECTIONS for c in line):
        raise DataError("has a caption with control characters", remedy=_ADVICE)
    return line


@dataclass
class CaptionBook:
    """All captions of a set of pictures.

    Attributes:
        captions: the caption files.
        rows: what tables say, by the picture's name: (name of the table, text).
        warnings: about captions that fit no picture, or are not used.
    """

    captions: Captions
    rows: dict[str, tuple[str, str]] = field(default_factory=dict)
    warnings: list[DatasetWarning] = field(default_factory=list)

    @classmethod
    def of(cls, captions: Captions, *, names: list[str]) -> Self:
        """Read the tables, and find what fits no picture.

        Args:
            captions: the caption files.
            names: of the pictures.
        """
        book = cls(captions)
        for orphan in captions.orphans:
            if PurePosixPath(orphan).suffix.casefold() in _NOT_READ:
                message = "is a text of a kind that is not read as a caption"
                book._warn(orphan, message, "Write .txt files, or a metadata.jsonl.")
                continue
            book._warn(orphan, "is a caption that fits no picture", "Give it a picture's name.")
        for picture, used, unused in captions.unused:
            message = f"has two caption files; {shown_name(used)} is used, {shown_name(unused)} not"
            book._warn(picture, message, "Remove one of them.")
        for table in captions.tables:
            book._read(table, names)
        return book

    def text_of(self, name: str) -> str | None:
        """Return what is written about a picture, as it is written; None: nothing.

        Raises:
            DataError: its caption cannot be used.
        """
        if (file := self.captions.files.get(name)) or (
            file := self.captions.files.get(stem_of(name))
        ):
            return read_caption(file.path)
        if name in self.rows:
            return clean_caption(self.rows[name][1])[:MAX_CAPTION_CHARACTERS]
        return None

    def _read(self, table: SourceFile, names: list[str]) -> None:
        """Take the rows of one table in."""
        folder = PurePosixPath(table.name).parent
        index = NameIndex(names)
        lost = 0
        for number, row in enumerate(rows_of(table, index), start=1):
            found = index.find(row.name, folder=folder) if row.name else []
            for name in found:
                self._set(name, table.name, row.text)
            if found:
                continue
            lost += 1
            if lost <= _MAX_ROW_WARNINGS:
                what = (
                    f"names {shown_name(row.name)}, which fits no picture"
                    if row.name
                    else "has no file name and text"
                )
                self._warn(table.name, f"row {number} {what}", "Correct it, or remove it.")
        if lost > _MAX_ROW_WARNINGS:
            more = lost - _MAX_ROW_WARNINGS
            self._warn(table.name, f"has {more} more rows that fit no picture", "Correct them.")

    def _set(self, name: str, table: str, text: str) -> None:
        """Take one row in; a caption file or an earlier row comes first."""
        file = self.captions.files.get(name) or self.captions.files.get(stem_of(name))
        first = file.name if file else self.rows.get(name, ("", ""))[0]
        if first:
            message = f"has captions in two places; {shown_name(first)} is used, {table} not"
            self._warn(name, message, "Remove one of them.")
        else:
            self.rows[name] = (table, text)

    def _warn(self, name: str, message: str, advice: str) -> None:
        source = shown_name(name)
        self.warnings.append(
            DatasetWarning(source=source, check="caption", message=message, advice=advice)
        )


def caption_for(
    source: str, name: str, book: CaptionBook, *, subject: SubjectConfig, fallback: str = ""
) -> tuple[str, list[DatasetWarning]]:
    """Return the caption of a picture with `{subject}` filled in, and warnings about it.

    Args:
        source: name of the picture, safe to print.
        name: its name.
        book: all captions; a refused one falls back as a missing one does.
        subject: gives the prompt, the identifier and the class noun.
        fallback: caption of a picture without one; empty: `subject.prompt`.
    """
    plain = fallback or subject.fill(subject.prompt)
    warnings: list[DatasetWarning] = []
    try:
        template = book.text_of(name)
    except DataError as error:
        template = None
        message = f"{error.message}; {'its folder' if fallback else 'subject.prompt'} is used"
        warnings.append(_warning(source, f"{message} instead", error.remedy))
    if template is None and not fallback:
        return plain, warnings
    caption = plain if template is None else subject.fill(template)
    if template is not None and len(template) == MAX_CAPTION_CHARACTERS:
        message = f"has a caption that is cut to its first {MAX_CAPTION_CHARACTERS} characters"
        warnings.append(_warning(source, message, "Shorten it; no text encoder reads so much."))
    if not names(caption, subject.identifier):
        message = f"has a caption without the identifier {subject.identifier!r}"
        advice = (
            f"Write {SUBJECT_FIELD} where the subject stands; nothing else ties it to its name."
        )
        warnings.append(_warning(source, message, advice))
    return caption, warnings


def _warning(source: str, message: str, advice: str) -> DatasetWarning:
    return DatasetWarning(source=source, check="caption", message=message, advice=advice)


def names(caption: str, phrase: str) -> bool:
    """Return whether a caption contains a phrase as whole words, in any case."""
    return re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", caption, re.IGNORECASE) is not None
