"""Names files that are not read by their first bytes: raw camera files above all.

Most raw formats are TIFF files whose first picture is a small preview: taken as TIFF, a picture of
256 x 192 pixels would stand for one of 24 million.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

_RAW: Final = "a raw camera file"
_STARTS: Final = (
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript document"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"8BPS", "a Photoshop document"),
    (b"FUJIFILMCCD-RAW", f"{_RAW} (Fujifilm RAF)"),
    (b"FOVb", f"{_RAW} (Sigma X3F)"),
    (b"\0MRM", f"{_RAW} (Minolta MRW)"),
    (b"IIRO", f"{_RAW} (Olympus ORF)"),
    (b"IIRS", f"{_RAW} (Olympus ORF)"),
    (b"MMOR", f"{_RAW} (Olympus ORF)"),
    (b"IIU\0", f"{_RAW} (Panasonic RW2)"),
    (b"II\x1a\0\0\0HEAPCCDR", f"{_RAW} (Canon CRW)"),
    (b"\x1aE\xdf\xa3", "a video"),
)
_TIFF: Final = {
    b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">",
}  # fmt: skip
_CR2, _IIQ = b"CR\x02", b"IIII"
_MAKERS: Final = (
    ("canon", "Canon CR2"), ("nikon", "Nikon NEF"), ("sony", "Sony ARW"), ("pentax", "Pentax PEF"),
    ("ricoh", "Pentax PEF"), ("samsung", "Samsung SRW"), ("hasselblad", "Hasselblad 3FR"),
    ("epson", "Epson ERF"), ("kodak", "Kodak DCR"), ("leaf", "Leaf MOS"), ("mamiya", "Mamiya MEF"),
    ("olympus", "Olympus ORF"), ("panasonic", "Panasonic RW2"), ("leica", "Leica RWL"),
    ("phase one", "Phase One IIQ"), ("minolta", "Minolta MRW"),
)  # fmt: skip
_MAX_FOLDERS, _MAX_ENTRIES = 24, 500
_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 13: 4, 16: 8, 18: 8}
_SUBFILE, _PHOTOMETRIC, _COMPRESSION, _MAKE, _SUB_FOLDERS, _DNG = 254, 262, 259, 271, 330, 50706
_SENSOR_TAGS: Final = frozenset({33421, 33422, 50710, 50711})
_SENSOR_PHOTOMETRICS: Final = frozenset({32803, 34892})
# Sony, Epson, Samsung, Nikon, Kodak, Pentax.
_SENSOR_COMPRESSIONS: Final = frozenset({32767, 32769, 32770, 32772, 34713, 65000, 65535})
_WANTED: Final = _SENSOR_TAGS | {
    _SUBFILE, _PHOTOMETRIC, _COMPRESSION, _MAKE, _SUB_FOLDERS, _DNG,
}  # fmt: skip


def kind_of(head: bytes) -> str:
    """Return what a file is that no decoder knows, by its first 512 bytes; empty: unknown."""
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        if brand == b"crx ":
            return f"{_RAW} (Canon CR3)"
        return "a JPEG XL picture" if brand == b"jxl " else "a video or another media container"
    kind = next((kind for start, kind in _STARTS if head.startswith(start)), "")
    lowered = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in lowered:
        return "an SVG drawing"
    if lowered.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    return kind or ("a text" if _is_text(head) else "")


def raw_kind(path: Path, head: bytes) -> str:
    """Return the kind of a raw camera file that is built like TIFF; empty for a TIFF picture."""
    if head[:4] not in _TIFF:
        return ""
    if head[8:11] == _CR2:
        return f"{_RAW} (Canon CR2)"
    if head[8:12] == _IIQ:
        return f"{_RAW} (Phase One IIQ)"
    with path.open("rb") as stream:
        folders = list(_folders(stream, head))
    if not folders:
        return ""
    first = folders[0]
    if any(_DNG in folder for folder in folders):
        return f"{_RAW} (DNG)"
    # A first picture that calls itself reduced is a preview, whatever the rest is.
    is_preview = first.number(_SUBFILE) & 1
    if is_preview or any(folder.is_of_a_sensor for folder in folders):
        maker = first.make.lower()
        name = next((name for word, name in _MAKERS if word in maker), "")
        return f"{_RAW} ({name})" if name else f"{_RAW} with a preview"
    return ""


@dataclass
class _Folder:
    """One directory of a TIFF file: numbers by tag, and who made the camera."""

    numbers: dict[int, list[int]] = field(default_factory=dict)
    make: str = ""

    def __contains__(self, tag: int) -> bool:
        return tag in self.numbers

    def number(self, tag: int) -> int:
        """Return the first number of a tag; 0 without it."""
        return next(iter(self.numbers.get(tag, ())), 0)

    @property
    def is_of_a_sensor(self) -> bool:
        """Whether it holds what a sensor saw, not colours."""
        return (
            not _SENSOR_TAGS.isdisjoint(self.numbers)
            or self.number(_PHOTOMETRIC) in _SENSOR_PHOTOMETRICS
            or self.number(_COMPRESSION) in _SENSOR_COMPRESSIONS
        )


def _folders(stream: IO[bytes], head: bytes) -> Iterator[_Folder]:
    """Yield the directories, those below others included."""
    order, is_big = _TIFF[head[:4]], head[2:4].strip(b"\0") == b"+"
    word = order + ("Q" if is_big else "I")
    width = 8 if is_big else 4
    start = 8 if is_big else 4
    if len(head) < start + width:
        return
    (first,) = struct.unpack_from(word, head, start)
    places, seen = [first], set[int]()
    while places and len(seen) < _MAX_FOLDERS:
        place = places.pop(0)
        if not place or place in seen:
            continue
        seen.add(place)
        try:
            folder, following = _folder(stream, place, order=order, is_big=is_big)
        except (struct.error, OverflowError, ValueError):
            continue
        places += folder.numbers.get(_SUB_FOLDERS, [])
        places.append(following)
        yield folder


def _folder(stream: IO[bytes], place: int, *, order: str, is_big: bool) -> tuple[_Folder, int]:
    """Read one directory; returns it and where the next one lies."""
    count_code, entry_code, inline = ("Q", "HHQ8s", 8) if is_big else ("H", "HHI4s", 4)
    stream.seek(place)
    (count,) = struct.unpack(order + count_code, stream.read(8 if is_big else 2))
    if count > _MAX_ENTRIES:
        raise ValueError("too many entries")
    size = struct.calcsize(order + entry_code)
    entries = stream.read(count * size)
    (following,) = struct.unpack(order + ("Q" if is_big else "I"), stream.read(inline))
    folder = _Folder()
    for tag, kind, number, value in struct.iter_unpack(order + entry_code, entries):
        if tag not in _WANTED or kind not in _SIZES:
            continue
        length = min(number, 64) * _SIZES[kind]
        if length > inline:
            stream.seek(struct.unpack(order + ("Q" if is_big else "I"), value)[0])
            value = stream.read(length)
        if tag == _MAKE:
            folder.make = value[:length].rstrip(b"\0 ").decode("ascii", "replace")
            continue
        code = {1: "B", 2: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}[kind]
        usable = value[: length - length % _SIZES[kind]]
        folder.numbers[tag] = [n for (n,) in struct.iter_unpack(order + code, usable)] or [0]
    return folder, following


def _is_text(head: bytes) -> bool:
    return all(byte in b"\t\r\n" or byte >= 32 for byte in head) and b"\x7f" not in head
