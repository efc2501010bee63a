"""Reads the boxes of HEIC and AVIF files (ISO base media): which kind, and whose colours."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_HEIC: Final = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
    | {b"mif2", b"mif3"}
)
_AVIF: Final = frozenset({b"avif", b"avis"})
_MAX_META_BYTES: Final = 4 * 2**20
_MAX_BOXES: Final = 2000


@dataclass(frozen=True, kw_only=True)
class _Box:
    """A box: its type and where its content lies."""

    name: bytes
    start: int
    end: int


def kind_of(head: bytes) -> str:
    """Return `HEIC`, `AVIF`, or empty for another file, of the first 512 bytes of one."""
    if head[4:8] != b"ftyp":
        return ""
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))}
    if brands & _AVIF:
        return "AVIF"
    return "HEIC" if brands & _HEIC else ""


def colour_codes(path: Path) -> tuple[int, int] | None:
    """Return the codes (H.273) of primaries and transfer of the main picture, if it has any."""
    with path.open("rb") as stream:
        data = stream.read(_MAX_META_BYTES)
    meta = _inside(data, _Box(name=b"", start=0, end=len(data)), b"meta")
    if meta is None:
        return None
    meta = _Box(name=b"meta", start=meta.start + 4, end=meta.end)
    properties = _inside(data, meta, b"iprp")
    container = _inside(data, properties, b"ipco") if properties else None
    if properties is None or container is None:
        return None
    known = list(_boxes(data, container))
    main = _main_item(data, meta)
    for number in _properties_of(data, properties, main):
        box = known[number - 1] if 0 < number <= len(known) else None
        if box and box.name == b"colr" and data[box.start : box.start + 4] == b"nclx":
            codes = data[box.start + 4 : box.start + 8]
            return int.from_bytes(codes[:2], "big"), int.from_bytes(codes[2:], "big")
    return None


def _boxes(data: bytes, parent: _Box) -> Iterator[_Box]:
    position = parent.start
    for _ in range(_MAX_BOXES):
        if position + 8 > parent.end:
            return
        size, header = int.from_bytes(data[position : position + 4], "big"), 8
        if size == 1:
            size, header = int.from_bytes(data[position + 8 : position + 16], "big"), 16
        end = parent.end if size == 0 else min(position + size, parent.end)
        if end < position + header:
            return
        yield _Box(name=data[position + 4 : position + 8], start=position + header, end=end)
        position = end


def _inside(data: bytes, parent: _Box, name: bytes) -> _Box | None:
    return next((box for box in _boxes(data, parent) if box.name == name), None)


def _main_item(data: bytes, meta: _Box) -> int:
    """Return the number of the main picture."""
    box = _inside(data, meta, b"pitm")
    if box is None:
        return 0
    width = 2 if data[box.start : box.start + 1] == b"\0" else 4
    return int.from_bytes(data[box.start + 4 : box.start + 4 + width], "big")


def _properties_of(data: bytes, properties: _Box, item: int) -> list[int]:
    """Return the numbers, from 1, of the properties of an item."""
    box = _inside(data, properties, b"ipma")
    if box is None:
        return []
    version, flags = data[box.start], data[box.start + 3]
    position = box.start + 8
    for _ in range(int.from_bytes(data[box.start + 4 : box.start + 8], "big")):
        width = 4 if version else 2
        number = int.from_bytes(data[position : position + width], "big")
        position += width
        if position >= box.end:
            break
        count, each = data[position], 2 if flags & 1 else 1
        position += 1
        mask = 0x7FFF if each == 2 else 0x7F
        found = [
            int.from_bytes(data[at : at + each], "big") & mask
            for at in range(position, position + count * each, each)
        ]
        if number == item:
            return found
        position += count * each
    return []
