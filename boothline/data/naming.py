"""Names and texts as they come from outside: cleaned, shown, compared in any spelling."""

import codecs
import os
import re
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath, PureWindowsPath
from typing import Final

SPELLINGS: Final[tuple[Callable[[str], str], ...]] = (
    str,
    lambda name: unicodedata.normalize("NFC", name),
    lambda name: unicodedata.normalize("NFC", name).casefold(),
)
"""macOS writes composed letters in parts, Windows knows names in any letter case."""


def spelt_loosely(name: str) -> str:
    """Return a name for comparisons that forgive letter case and composed characters."""
    return SPELLINGS[-1](name)


def match(wanted: str, names: Iterable[str]) -> list[str]:
    """Return the names that equal one in the strictest way that any does."""
    listed = list(names)
    for spelt in SPELLINGS:
        if found := [name for name in listed if spelt(name) == spelt(wanted)]:
            return found
    return []


# UTF-32 first: its mark begins with that of UTF-16.
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decoded(data: bytes, *, errors: str = "strict") -> str:
    """Return a text by the mark at its start; without one it is UTF-8, or UTF-16 by its zeros.

    Args:
        data: the bytes.
        errors: as for `bytes.decode`.

    Raises:
        UnicodeDecodeError: it is in no such encoding.
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "")
    return data.decode(encoding or _unmarked(data), errors)


def _unmarked(data: bytes) -> str:
    """Return the encoding of a text without a mark: UTF-16 has zeros in every other place."""
    even, odd = data[::2].count(0), data[1::2].count(0)
    if len(data) % 2 == 0 and 4 * max(even, odd) > len(data) and min(even, odd) == 0:
        return "utf-16-le" if odd else "utf-16-be"
    return "utf-8"


MAX_SHOWN_CHARACTERS = 120

_SIDECAR_SUFFIXES = frozenset(
    {".txt", ".md", ".rst", ".json", ".jsonl", ".yaml", ".yml", ".toml", ".csv", ".tsv", ".xml"}
    | {".xmp", ".ini", ".db", ".log", ".caption", ".npz"}
    | {".captions", ".cap", ".tags", ".prompt", ".ndjson"}
)
_SIDECAR_NAMES = frozenset(
    {"LICENSE", "LICENCE", "NOTICE", "README", "COPYING", "ATTRIBUTION", "Makefile"}
)
_SYSTEM_FOLDERS = frozenset({"__MACOSX", "@eaDir"})
_SIDE_SUFFIXES = frozenset(
    {".aae", ".thm", ".lrv", ".lnk", ".url", ".pp3", ".dop", ".cos", ".ini", ".db", ".xmp"}
    | {".nksc", ".on1", ".dxo", ".arp", ".ctg", ".modd", ".moff"}
)
_SIDE_NAMES = frozenset({"icon\r", "desktop.ini", "thumbs.db", "ehthumbs.db", "zbthumbnail.info"})
_PLACEHOLDER: Final = re.compile(r"\.(.+)\.icloud", re.IGNORECASE)
_ZONE_MARK = "zone.identifier"


def clean_name(name: str) -> str:
    """Return a name as valid Unicode: bytes that are not UTF-8 become hexadecimal escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def shown_name(name: str) -> str:
    """Return a name that is safe to print: unprintable characters escaped, and not too long.

    Newlines, terminal escapes and characters that change the direction of writing become
    their Python escapes. It stays text: whoever writes HTML or console markup escapes it for that.
    """
    escaped = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in clean_name(name)
    )
    if len(escaped) <= MAX_SHOWN_CHARACTERS:
        return escaped
    half = MAX_SHOWN_CHARACTERS // 2
    return f"{escaped[: half - 1]}...{escaped[-half + 2 :]}"


def is_hidden(name: str) -> bool:
    """Return whether a file is hidden or an operating system's: `.DS_Store`, `__MACOSX/x.png`."""
    parts = PureWindowsPath(name).parts
    return any((part.startswith(".") and part != "..") or part in _SYSTEM_FOLDERS for part in parts)


def kept_elsewhere(name: str) -> str:
    """Return the name of the file that a placeholder of iCloud stands for; empty: it is none."""
    pure = PurePosixPath(name)
    found = _PLACEHOLDER.fullmatch(pure.name)
    return str(pure.with_name(found.group(1))) if found else ""


def is_side_file(name: str) -> bool:
    """Return whether phones, computers or photo programs wrote a file for themselves."""
    pure = PurePosixPath(name.casefold())
    is_mark = pure.name.endswith(_ZONE_MARK)
    return is_mark or pure.suffix in _SIDE_SUFFIXES or pure.name in _SIDE_NAMES


def is_sidecar(name: str) -> bool:
    """Return whether a name is that of a text next to pictures, such as a caption or a licence."""
    pure = PurePosixPath(name)
    return pure.suffix.lower() in _SIDECAR_SUFFIXES or pure.name in _SIDECAR_NAMES


def stem_of(name: str) -> str:
    """Return the name without its last suffix: a picture and its caption file share it."""
    return str(PurePosixPath(name).with_suffix("")) if PurePosixPath(name).name else name
