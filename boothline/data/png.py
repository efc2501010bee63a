"""Reads a PNG's chunks before it is decoded: what it says about colours, and what is left out.

Text and other chunks that no pixel depends on may be of any size and may unpack to far more; they
are cut out of what the decoder gets.
"""

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from boothline.data.colours import SRGB, Claim, Space, claim_of, claim_of_codes

MAGIC: Final = b"\x89PNG\r\n\x1a\n"

_MAX_ANCILLARY_BYTES: Final = 64 * 2**10
_MAX_UNPACKED_BYTES: Final = 2**20
_MAX_CHUNKS: Final = 100_000
_TEXTS: Final = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_NEEDED: Final = frozenset({b"tRNS", b"acTL", b"fcTL", b"fdAT", b"eXIf", b"cICP", b"cHRM", b"gAMA"})
_SMALL: Final = frozenset({b"cICP", b"cHRM", b"gAMA", b"sRGB"})


@dataclass(frozen=True, kw_only=True)
class PngFacts:
    """What the chunks say.

    Attributes:
        claim: what it says about colours; None: what the decoder finds (an ICC profile or nothing).
        pixels: the file without what is left out; None: nothing is.
        profile_left_out: whether its ICC profile is damaged or too large.
    """

    claim: Claim | None
    pixels: io.BytesIO | None
    profile_left_out: bool


@dataclass(frozen=True, kw_only=True)
class _Chunk:
    """A chunk: its name, where it starts with its header, and the length of its data."""

    name: bytes
    start: int
    length: int

    @property
    def end(self) -> int:
        return self.start + 12 + self.length


def read_facts(path: Path) -> PngFacts:
    """Return what the chunks of a PNG file say."""
    small: dict[bytes, bytes] = {}
    cuts: list[_Chunk] = []
    has_profile = profile_left_out = False
    budget = _MAX_UNPACKED_BYTES
    with path.open("rb") as stream:
        for chunk in _chunks(stream):
            if chunk.name in _SMALL and chunk.length <= 32:
                small.setdefault(chunk.name, _data(stream, chunk))
            elif chunk.name == b"iCCP":
                has_profile = True
                if _unpacked_bytes(stream, chunk) is None:
                    profile_left_out = True
                    cuts.append(chunk)
            elif chunk.name in _TEXTS:
                size_bytes = _unpacked_bytes(stream, chunk)
                if size_bytes is None or size_bytes > budget:
                    cuts.append(chunk)
                else:
                    budget -= size_bytes
            elif _is_ancillary(chunk) and chunk.length > _MAX_ANCILLARY_BYTES:
                cuts.append(chunk)
        pixels = _without(stream, cuts) if cuts else None
    return PngFacts(
        claim=_claim(small, has_profile=has_profile),
        pixels=pixels,
        profile_left_out=profile_left_out,
    )


def _chunks(stream: io.BufferedReader) -> Iterator[_Chunk]:
    """Yield the chunks that are whole, up to the end of the picture."""
    end = stream.seek(0, io.SEEK_END)
    position = len(MAGIC)
    for _ in range(_MAX_CHUNKS):
        stream.seek(position)
        header = stream.read(8)
        chunk = _Chunk(name=header[4:], start=position, length=int.from_bytes(header[:4], "big"))
        if len(header) < 8 or chunk.end > end:
            return
        yield chunk
        if chunk.name == b"IEND":
            return
        position = chunk.end


def _is_ancillary(chunk: _Chunk) -> bool:
    return bool(chunk.name[0] & 0x20) and chunk.name not in _NEEDED


def _data(stream: io.BufferedReader, chunk: _Chunk) -> bytes:
    stream.seek(chunk.start + 8)
    return stream.read(chunk.length)


def _unpacked_bytes(stream: io.BufferedReader, chunk: _Chunk) -> int | None:
    """Return how much a text or a profile unpacks to; None: it is damaged, or beyond measure."""
    if chunk.name != b"iCCP" and chunk.length > _MAX_ANCILLARY_BYTES:
        return None
    if chunk.length > _MAX_UNPACKED_BYTES:
        return None
    data = _data(stream, chunk)
    _, _, rest = data.partition(b"\0")
    if chunk.name == b"tEXt" or (chunk.name == b"iTXt" and rest[:1] != b"\1"):
        return len(data)
    # Behind the two bytes on compression an iTXt has a language and a translated keyword.
    rest = rest[2:].split(b"\0", 2)[-1] if chunk.name == b"iTXt" else rest[1:]
    try:
        unpacker = zlib.decompressobj()
        unpacked = unpacker.decompress(rest, _MAX_UNPACKED_BYTES)
    except zlib.error:
        return None if chunk.name == b"iCCP" else len(data)
    return None if unpacker.unconsumed_tail else len(unpacked)


def _without(stream: io.BufferedReader, cuts: list[_Chunk]) -> io.BytesIO:
    """Return the file without some chunks."""
    kept = io.BytesIO()
    position = 0
    for chunk in cuts:
        stream.seek(position)
        kept.write(stream.read(chunk.start - position))
        position = chunk.end
    stream.seek(position)
    kept.write(stream.read())
    kept.seek(0)
    return kept


def _claim(small: dict[bytes, bytes], *, has_profile: bool) -> Claim | None:
    """Return the claim by the order of the standard: cICP, profile, sRGB, primaries and gamma."""
    if len(codes := small.get(b"cICP", b"")) == 4:
        return claim_of_codes(codes[0], codes[1])
    if has_profile or b"sRGB" in small:
        return None
    gamma: float | None = None
    if value := int.from_bytes(small.get(b"gAMA", b"")[:4], "big"):
        gamma = 100_000 / value
        if not 0.2 < gamma < 5:
            return Claim(broken="names an impossible gamma")
    numbers = [
        int.from_bytes(small.get(b"cHRM", b"")[at : at + 4], "big") / 100_000
        for at in range(0, 32, 4)
    ]
    if not all(0 < number < 1 for number in numbers):
        if gamma is None:
            return None
        corners = {"red": SRGB.red, "green": SRGB.green, "blue": SRGB.blue, "white": SRGB.white}
    else:
        names = ("white", "red", "green", "blue")
        corners = {name: (numbers[2 * at], numbers[2 * at + 1]) for at, name in enumerate(names)}
    return claim_of(Space(name="its primaries and gamma", gamma=gamma, **corners))
