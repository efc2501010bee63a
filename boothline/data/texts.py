"""Decodes the texts of people: UTF-8, or what editors on Windows call Unicode."""

import codecs
from typing import Final

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
