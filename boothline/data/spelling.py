"""Ways in which two spellings are one name, the strictest first."""

import unicodedata
from collections.abc import Callable, Iterable
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
