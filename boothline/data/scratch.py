"""Scratch folders for pictures, with a clear error where no disk takes one."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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
