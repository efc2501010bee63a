"""Content-addressed blobs: uploaded once, verified on every read, kept in a local cache."""

import errno
import hashlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from threading import Event
from uuid import uuid4

from boothline.errors import DiskFullError, IntegrityError, NotFoundError, is_disk_full
from boothline.store import layout
from boothline.store.manifest import FileEntry
from boothline.store.s3 import CHUNK_BYTES, MULTIPART_PART_BYTES, Bucket

logger = logging.getLogger(__name__)

_PART_SUFFIX = ".part"
_STALE_SECONDS = 24 * 3600.0
_NO_LINK_ERRORS = (
    errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP, errno.EACCES,
    # Another process has just put the same blob in its place: link(2) found the file that left.
    errno.ENOENT,
)  # fmt: skip

OnBytes = Callable[[int], None]


def describe(path: str, source: Path | bytes) -> FileEntry:
    """Return the manifest entry of a local file or of bytes, hashed as they are now."""
    if isinstance(source, bytes):
        return FileEntry(
            path=path, sha256=hashlib.sha256(source).hexdigest(), size_bytes=len(source)
        )
    hasher = hashlib.sha256()
    size_bytes = 0
    with source.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            hasher.update(chunk)
            size_bytes += len(chunk)
    return FileEntry(path=path, sha256=hasher.hexdigest(), size_bytes=size_bytes)


class BlobStore:
    """The blobs of one bucket, with a cache of verified copies on this machine.

    Args:
        bucket: where the blobs are.
        cache: local folder; shared by processes, safe to delete at any time.
    """

    def __init__(self, bucket: Bucket, cache: Path) -> None:
        self._bucket = bucket
        self._cache = cache

    def upload(self, entry: FileEntry, source: Path | bytes, *, stop: Event) -> bool:
        """Store a blob unless it is stored already with the right length.

        Returns:
            True if bytes were sent.

        Raises:
            IntegrityError: the file changed after it was hashed.
            ServiceError: the store cannot be reached or refuses the request.
        """
        bucket, key = self._bucket.stopping_on(stop), layout.blob(entry.sha256)
        if bucket.size(key) == entry.size_bytes:
            return False
        if entry.size_bytes > MULTIPART_PART_BYTES:
            bucket.put_parts(key, _checked_parts(source, entry))
            return True
        data = source if isinstance(source, bytes) else source.read_bytes()
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise _changed(source, entry)
        bucket.put(key, data, sha256_hex=entry.sha256)
        return True

    def require(self, entry: FileEntry, *, stop: Event) -> None:
        """Check that a blob is stored with the right length.

        Raises:
            NotFoundError: it is not stored.
            IntegrityError: it has another length.
        """
        key = layout.blob(entry.sha256)
        size_bytes = self._bucket.stopping_on(stop).size(key)
        if size_bytes is None:
            raise NotFoundError(
                f"The blob of {entry.path} does not exist at {self._bucket.uri(key)}."
            )
        if size_bytes != entry.size_bytes:
            raise self._damaged(entry, f"has {size_bytes} bytes instead of {entry.size_bytes}")

    def place(self, entry: FileEntry, target: Path, *, stop: Event, on_bytes: OnBytes) -> None:
        """Put a verified copy of a blob at a local path, atomically; the file is read-only.

        Raises:
            IntegrityError: the stored bytes differ from their digest, or are gone.
            DiskFullError: no space is left on a local disk.
        """
        with _disk_full_named(self._cache):
            cached = self._cached(entry, stop=stop, on_bytes=on_bytes)
        with _disk_full_named(target):
            _link_or_copy(cached, target)

    def read(self, entry: FileEntry) -> bytes:
        """Return the verified bytes of a blob.

        Raises:
            IntegrityError: the stored bytes differ from their digest, or are gone.
            DiskFullError: no space is left on the cache's disk.
        """
        with _disk_full_named(self._cache):
            cached = self._cached(entry, stop=Event(), on_bytes=lambda num_bytes: None)
            data = cached.read_bytes()
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise self._damaged(entry, "changed in the local cache while it was read")
        return data

    def _cached(self, entry: FileEntry, *, stop: Event, on_bytes: OnBytes) -> Path:
        """Return the path of a verified copy in the cache, downloaded when missing or damaged."""
        path = self._cache / entry.sha256[:2] / entry.sha256
        if path.is_file():
            if describe(entry.path, path).sha256 == entry.sha256:
                on_bytes(entry.size_bytes)
                return path
            logger.warning(
                "the cached copy of blob %s is damaged and is fetched again", entry.sha256
            )
        with _part_beside(path) as part:
            self._download(entry, part, stop=stop, on_bytes=on_bytes)
            part.chmod(0o444)
            part.replace(path)
        return path

    def _download(self, entry: FileEntry, part: Path, *, stop: Event, on_bytes: OnBytes) -> None:
        with part.open("wb") as stream:

            def sink(chunk: bytes) -> None:
                stream.write(chunk)
                on_bytes(len(chunk))

            problem = receive_checked(self._bucket.stopping_on(stop), entry, sink)
        if problem:
            raise self._damaged(entry, problem)

    def _damaged(self, entry: FileEntry, how: str) -> IntegrityError:
        return IntegrityError(
            f"The blob of {entry.path} at {self._bucket.uri(layout.blob(entry.sha256))} {how}.",
            remedy="Delete that blob and the manifest that names it, then run the step again.",
        )


def receive_checked(bucket: Bucket, entry: FileEntry, sink: Callable[[bytes], object]) -> str:
    """Pass the stored bytes of a blob to a sink; return what is wrong with them, or nothing.

    Raises:
        ServiceError: the store cannot be reached or refuses the request.
    """
    hasher = hashlib.sha256()

    def take(chunk: bytes) -> None:
        hasher.update(chunk)
        sink(chunk)

    try:
        received = bucket.receive(layout.blob(entry.sha256), take, size_bytes=entry.size_bytes)
    except NotFoundError:
        return "is gone"
    if received != entry.size_bytes:
        return f"has another length than {entry.size_bytes} bytes"
    return "" if hasher.hexdigest() == entry.sha256 else "has other bytes than its digest says"


def _checked_parts(source: Path | bytes, entry: FileEntry) -> Iterator[bytes]:
    """Yield a file or bytes in parts, hashed while they are sent.

    Raises:
        IntegrityError: before the last part, if it is not what it was when its blob was named.
    """
    hasher, left_bytes = hashlib.sha256(), entry.size_bytes
    with BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
        while left_bytes:
            part = stream.read(min(MULTIPART_PART_BYTES, left_bytes))
            hasher.update(part)
            left_bytes -= len(part)
            if not part or (not left_bytes and hasher.hexdigest() != entry.sha256):
                raise _changed(source, entry)
            yield part


def _changed(source: Path | bytes, entry: FileEntry) -> IntegrityError:
    name = source if isinstance(source, Path) else entry.path
    return IntegrityError(
        f"{name} changed while it was stored.",
        remedy="Do not write to a file that is being committed.",
    )


@contextmanager
def _part_beside(path: Path) -> Iterator[Path]:
    """Yield the name of a temporary file next to a path, removed unless it was renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name[:16]}.{uuid4().hex}{_PART_SUFFIX}")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def _link_or_copy(cached: Path, target: Path) -> None:
    """Make a target the same file as a cached blob, or a copy of it on another file system."""
    with _part_beside(target) as part:
        try:
            part.hardlink_to(cached)
        except OSError as error:
            if error.errno not in _NO_LINK_ERRORS:
                raise
            shutil.copyfile(cached, part)
            part.chmod(0o444)
        part.replace(target)


@contextmanager
def _disk_full_named(path: Path) -> Iterator[None]:
    """Turn "no space left" into an error that names the place.

    Raises:
        DiskFullError: no space is left there.
    """
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise DiskFullError(
            f"No space is left on the disk of {path}.",
            remedy="Free some space there, then resume the run.",
        ) from error


def sweep_parts(cache: Path, *, now: float | None = None) -> int:
    """Delete what killed downloads left in the cache over a day ago; return how many files."""
    limit = (time.time() if now is None else now) - _STALE_SECONDS
    num_deleted = 0
    for part in cache.glob(f"*/*{_PART_SUFFIX}"):
        with suppress(FileNotFoundError):
            if part.stat().st_mtime < limit:
                part.unlink()
                num_deleted += 1
    return num_deleted


def inside(folder: Path, entry: FileEntry) -> Path:
    """Return where a file of a manifest goes, with its parent folders made.

    Raises:
        IntegrityError: a link below the folder leads the path out of it.
    """
    target = folder / entry.path
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.parent.resolve().is_relative_to(folder.resolve()):
        raise IntegrityError(
            f"{entry.path!r} would be written outside {folder}.",
            remedy="Fetch into an empty folder.",
        )
    return target
