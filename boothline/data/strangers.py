"""Names files that are not read by their first bytes: raw camera files above all.

Most raw formats are TIFF files whose first picture is a small preview: taken as TIFF, a picture of
256 x 192 pixels would stand for one of 24 million.
"""

import re
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
    (b"\0\0\x01\xba", "a video"),
    (b"\0\0\x01\xb3", "a video"),
    (b"FLV\x01", "a video"),
    (b"OggS", "a video or a sound"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a video or a sound"),
    (b"CI\x2c\0", f"{_RAW} (Phantom CINE)"),
    (b"ARRI", f"{_RAW} (ARRIRAW)"),
    (b"\0MDC", f"{_RAW} (Minolta MDC)"),
    (b"rawz", f"{_RAW} (Rawzor RWZ)"),
    (b"EASTMAN KODAK", f"{_RAW} (Kodak)"),
    (b"version https://git-lfs", "a pointer of Git LFS to a picture that was not fetched"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"\0\0\x01\0", "a Windows icon"),
    (b"\0\0\x02\0", "a Windows cursor"),
    (b"icns", "an icon of macOS"),
    (b"DDS ", "a DDS texture"),
    (b"qoif", "a QOI picture"),
    (b"\x01\xda", "an SGI picture"),
    (b"\x76\x2f\x31\x01", "an OpenEXR picture"),
    (b"#?RADIANCE", "a Radiance HDR picture"),
    (b"#?RGBE", "a Radiance HDR picture"),
    (b"II\xbc", "a JPEG XR picture"),
    (b"BPG\xfb", "a BPG picture"),
    (b"FLIF", "a FLIF picture"),
    (b"SIMPLE  =", "a FITS picture"),
    (b"gimp xcf", "a GIMP document"),
    (b"CSFCHUNK", "a Clip Studio document"),
    (b"\xd7\xcd\xc6\x9a", "a Windows metafile"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document"),
    (b"\x89PNG\n", "a PNG picture damaged by a transfer as text"),
    (b"\x89PNG\r\n\x1a\r\n", "a PNG picture damaged by a transfer as text"),
    (b"\x89PNG\r\n\x1a\n\0\0\0\x04CgBI", "a PNG picture as Xcode rewrites it for an iPhone"),
)
_PARTS: Final = (
    (128, b"DICM", "a DICOM picture"),
    (40, b" EMF", "a Windows metafile"),
    (4, b"RED2", f"{_RAW} (RED R3D)"),
    (4, b"RED1", f"{_RAW} (RED R3D)"),
    (8, b"AVI ", "a video"),
    (8, b"WAVE", "a sound"),
)
"""What stands behind the first bytes of a file."""
_BITMAP: Final = re.compile(rb"P[1-7]\s[\s#\dWw]")
_JPEG_START, _MOST_BEFORE = b"\xff\xd8\xff", 16
_RAW_BRANDS: Final = {b"crx ": "Canon CR3", b"braw": "Blackmagic BRAW"}
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
        if brand in _RAW_BRANDS:
            return f"{_RAW} ({_RAW_BRANDS[brand]})"
        return "a JPEG XL picture" if brand == b"jxl " else "a video or another media container"
    if not head.strip(b"\0"):
        return "nothing but zeros, as an interrupted copy leaves it"
    kind = next((kind for start, kind in _STARTS if head.startswith(start)), "")
    kind = kind or next((kind for at, part, kind in _PARTS if head.startswith(part, at)), "")
    if not kind and _BITMAP.match(head):
        kind = "a Netpbm picture (PPM, PGM, PBM)"
    if not kind and 0 < head.find(_JPEG_START) <= _MOST_BEFORE:
        kind = "a JPEG picture with other bytes in front"
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
