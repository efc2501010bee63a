"""How much a set of pictures may be: caps that keep input from filling memory or disk."""

from dataclasses import dataclass

MEBIBYTE = 2**20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Caps on what is read; beyond them a picture or a whole source is refused.

    Attributes:
        max_files: files of one source, sidecars included.
        max_file_bytes: size of one file, unpacked.
        max_total_bytes: size of all files together, unpacked.
        max_pixels: width x height of one picture that is not a JPEG. At this size, 8 bits a channel
            fit into the memory below. A larger JPEG is decoded at a part of its size.
        decode_seconds: processor time for one picture.
        decode_memory_bytes: address space of the process that decodes.
    """

    max_files: int = 2000
    max_file_bytes: int = 64 * MEBIBYTE
    max_total_bytes: int = 2048 * MEBIBYTE
    max_pixels: int = 80_000_000
    decode_seconds: float = 10.0
    decode_memory_bytes: int = 512 * MEBIBYTE
