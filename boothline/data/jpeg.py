"""Reads the segments of a JPEG up to the end of its picture; what lies behind it plays no part.

Phones append videos (motion photos) and further pictures (MPF: gain maps, views, depth).
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAGIC: Final = b"\xff\xd8\xff"
MAX_SCANS: Final = 50
"""A progressive JPEG has some ten scans; each one costs a pass over all pixels."""

_NEXT_MARKER: Final = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_START_OF_SCAN: Final = 0xDA
_END_OF_IMAGE: Final = 0xD9
_ALONE: Final = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE: Final = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_COLOURS: Final = 0xE2
_ICC: Final = b"ICC_PROFILE\0"


@dataclass(frozen=True, kw_only=True)
class JpegFacts:
    """What the segments of the picture say.

    Attributes:
        num_scans: scans of the picture; counted up to one above MAX_SCANS.
        is_progressive: whether the decoder has to keep all coefficients.
        num_components: colour components.
        has_profile: whether it carries a piece of an ICC profile.
    """

    num_scans: int = 0
    is_progressive: bool = False
    num_components: int = 0
    has_profile: bool = False


def read_facts(path: Path) -> JpegFacts:
    """Return what the segments of a JPEG file say, from its start to the end of the picture."""
    data = path.read_bytes()
    num_scans, num_components = 0, 0
    is_progressive = has_profile = False
    position = 2
    while num_scans <= MAX_SCANS and (found := _NEXT_MARKER.search(data, position)):
        marker, position = data[found.start() + 1], found.end()
        if marker == _END_OF_IMAGE:
            break
        if marker in _ALONE:
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        if length < 2 or position + length > len(data):
            break
        if marker == _START_OF_SCAN:
            num_scans += 1
        elif marker in _FRAMES and not num_components:
            is_progressive = marker in _PROGRESSIVE
            num_components = data[position + 7] if length > 7 else 0
        elif marker == _COLOURS and data.startswith(_ICC, position + 2):
            has_profile = True
        position += length
    return JpegFacts(
        num_scans=num_scans,
        is_progressive=is_progressive,
        num_components=num_components,
        has_profile=has_profile,
    )
