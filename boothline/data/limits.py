"""Limits of what is read, and the scratch folder that it is read in."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from boothline.errors import DiskFullError


@contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """Make a folder that is deleted afterwards.

    Args:
        prefix: start of its name.

    Raises:
        DiskFullError: no temporary folder can be written, as on a full disk.
    """
    try:
        parent = tempfile.gettempdir()
    except FileNotFoundError as error:
        raise DiskFullError(
            f"No temporary folder can be written: {error.strerror}.",
            remedy="Free space, or point TMPDIR at a folder on a larger disk.",
        ) from error
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as folder:
        yield Path(folder)


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
