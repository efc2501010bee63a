"""Copies files from outside into a scratch folder under numbers, counted and within limits."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from boothline.data.limits import Limits
from boothline.data.naming import clean_name, is_hidden, kept_elsewhere
from boothline.errors import DataError, DiskFullError, is_disk_full

_CHUNK_BYTES: Final = 2**20


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One file as it was found.

    Attributes:
        name: its name in the source, with `/` between folders; data only, never a path.
        path: where its bytes lie in the scratch folder, under a number.
        sha256: digest of its bytes (hex).
        size_bytes: length.
    """

    name: str
    path: Path
    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A file that cannot be used.

    Attributes:
        name: its name in the source.
        reason: what is wrong with it.
        advice: what its owner can do.
    """

    name: str
    reason: str
    advice: str


class Intake:
    """Copies files into a scratch folder under numbers, within limits.

    Args:
        folder: scratch folder; created.
        source: where the files come from, for messages.
        limits: the caps.
    """

    def __init__(self, folder: Path, *, source: str, limits: Limits) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.source = source
        self.limits = limits
        self.files: list[SourceFile] = []
        self.refused: list[Refusal] = []
        self._folder = folder
        self._total_bytes = 0
        self._num_seen = 0

    def wants(self, name: str) -> bool:
        """Count a file and return whether it is to be taken in; hidden files are not.

        Raises:
            DataError: the source has too many files.
        """
        self._num_seen += 1
        if self._num_seen > self.limits.max_files:
            raise DataError(
                f"{self.source} holds more than {self.limits.max_files} files.",
                remedy="Point subject.images at the pictures of one subject alone.",
            )
        if original := kept_elsewhere(name):
            advice = "Download it first: open its folder in Finder and click the cloud."
            self.refuse(original, "is kept in iCloud only", advice)
            return False
        return not is_hidden(name)

    def refuse(self, name: str, reason: str, advice: str) -> None:
        """Note a file that is not read."""
        self.refused.append(Refusal(name=clean_name(name), reason=reason, advice=advice))

    def is_too_large(self, name: str, size_bytes: int) -> bool:
        """Refuse a file whose size is known to exceed the limit; return whether it was."""
        if size_bytes <= self.limits.max_file_bytes:
            return False
        self.refuse(
            name,
            f"is larger than {self.limits.max_file_bytes // 2**20} MiB",
            "Save the picture smaller; a video is not read.",
        )
        return True

    def take(self, name: str, stream: IO[bytes]) -> None:
        """Copy one file from a stream; one that proves too large is refused.

        Raises:
            DataError: all files together are too large.
            DiskFullError: the scratch folder is full.
        """
        path = self._folder / f"{len(self.files):05d}"
        digest = hashlib.sha256()
        size_bytes = 0
        with path.open("wb", buffering=0) as target:
            while chunk := stream.read(_CHUNK_BYTES):
                size_bytes += len(chunk)
                self._count(num_new_bytes=len(chunk))
                if self.is_too_large(name, size_bytes):
                    break
                digest.update(chunk)
                _write(target, chunk)
        if size_bytes > self.limits.max_file_bytes:
            path.unlink()
            return
        self.files.append(
            SourceFile(
                name=clean_name(name), path=path, sha256=digest.hexdigest(), size_bytes=size_bytes
            )
        )

    def _count(self, *, num_new_bytes: int) -> None:
        self._total_bytes += num_new_bytes
        if self._total_bytes > self.limits.max_total_bytes:
            raise DataError(
                f"The files of {self.source} are larger than"
                f" {self.limits.max_total_bytes // 2**20} MiB together.",
                remedy="Point subject.images at fewer or smaller pictures.",
            )


def _write(target: IO[bytes], data: bytes) -> None:
    """Write all bytes; a full disk raises another error than a damaged source."""
    view = memoryview(data)
    try:
        while view:
            view = view[target.write(view) :]
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise DiskFullError(
            f"No space is left for the pictures: {error.strerror}.",
            remedy="Free space, or point TMPDIR at a larger disk.",
        ) from error
