"""Brings the files of a folder, an archive or an s3:// prefix into one scratch folder."""

import errno
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from lzma import LZMAError
from pathlib import Path, PurePosixPath, PureWindowsPath

from boothline.data import kohya
from boothline.data.captions import Captions, assign, is_film_of
from boothline.data.intake import Intake, Refusal, SourceFile
from boothline.data.limits import Limits
from boothline.data.naming import (
    clean_name,
    is_side_file,
    is_sidecar,
    shown_name,
    spelt_loosely,
    stem_of,
)
from boothline.errors import BoothlineError, ConfigError, DataError
from boothline.settings import Settings

_MAX_TRAILING_CHUNKS = 1000
_ADVICE = "Pack the pictures themselves, as plain files."
_PACK_AGAIN = "Pack it again as a plain zip (method Deflate)."
# By its name too: what is damaged at its beginning does not look like one.
_TAR_NAMES = (".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz")
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    LZMAError,
    EOFError,
    OSError,
    NotImplementedError,
    ValueError,
)


def take_archive(path: Path, intake: Intake) -> None:
    """Take the regular members of an archive in; links, devices and climbing names are refused.

    Raises:
        ConfigError: the file is not an archive of a known kind.
        DataError: the archive is damaged, or exceeds the limits.
    """
    if path.stat().st_size > intake.limits.max_total_bytes:
        raise DataError(
            f"{intake.source} is larger than {intake.limits.max_total_bytes // 2**20} MiB.",
            remedy="Pack fewer or smaller pictures.",
        )
    if zipfile.is_zipfile(path):
        with _damage_named(intake):
            _take_zip(path, intake)
    elif _is_tar(path) or intake.source.lower().endswith(_TAR_NAMES):
        with _damage_named(intake):
            _take_tar(path, intake)
    else:
        raise ConfigError(
            f"subject.images is {intake.source}, neither a folder nor a .zip or .tar archive.",
            remedy="Put the pictures into a folder and name that.",
        )


@contextmanager
def _damage_named(intake: Intake) -> Iterator[None]:
    """Turn what the archive modules raise for damaged archives into one clear error."""
    try:
        yield
    except BoothlineError:
        raise
    except _DAMAGE as error:
        raise DataError(
            f"The archive {intake.source} is damaged after {len(intake.files)} files: {error}",
            remedy="Pack it again, or use the folder itself.",
        ) from error


def _is_tar(path: Path) -> bool:
    try:
        return tarfile.is_tarfile(path)
    except (EOFError, LZMAError, zlib.error, OSError):
        return False


def _take_zip(path: Path, intake: Intake) -> None:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = _plain(member.filename)
            if member.is_dir() or not intake.wants(name):
                continue
            mode = member.external_attr >> 16
            if leads_outside(name):
                intake.refuse(name, "has a name that leads out of the archive", _ADVICE)
            elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                intake.refuse(name, "is a link or a device, not a file", _ADVICE)
            elif member.flag_bits & 0x1:
                intake.refuse(name, "is encrypted", "Pack it without a password.")
            elif not intake.is_too_large(name, member.file_size):
                try:
                    stream = archive.open(member)
                except NotImplementedError:
                    intake.refuse(name, "is packed in a way that is not read", _PACK_AGAIN)
                    continue
                with stream:
                    intake.take(name, stream)


def _take_tar(path: Path, intake: Intake) -> None:
    with tarfile.open(path) as archive:
        for member in archive:
            name = _plain(member.name)
            if member.isdir() or not intake.wants(name):
                continue
            if not _passes_data_filter(member, path) or leads_outside(name):
                intake.refuse(name, "is a link, a device, or leads out of the archive", _ADVICE)
            elif intake.is_too_large(name, member.size):
                continue
            elif (stream := archive.extractfile(member)) is not None:
                with stream:
                    intake.take(name, stream)
        if archive.fileobj is not None:
            # A compressed stream shows damage only when its checksum at the end is read.
            for _ in range(_MAX_TRAILING_CHUNKS):
                if not archive.fileobj.read(tarfile.RECORDSIZE):
                    break


def _passes_data_filter(member: tarfile.TarInfo, path: Path) -> bool:
    """Return whether tarfile's own data filter lets the member through and it is a regular file."""
    try:
        tarfile.data_filter(member, str(path.parent))
    except tarfile.FilterError:
        return False
    return member.isfile()


def leads_outside(name: str) -> bool:
    """Return whether a member's name is absolute, climbs with `..`, or does so on Windows."""
    windows = PureWindowsPath(name)
    return (
        PurePosixPath(name).is_absolute()
        or bool(windows.drive or windows.root)
        or ".." in windows.parts
        or "\0" in name
    )


def _plain(name: str) -> str:
    return clean_name(name).removeprefix("./")


@dataclass(frozen=True, kw_only=True)
class Collection:
    """All files of a source, sorted by name.

    Attributes:
        pictures: what may be a picture (its bytes decide later).
        captions: caption files by the stem they share with a picture, or by its whole name.
        caption_index: the same, with tables of captions and files that fit no picture.
        side_files: names of files that phones and computers wrote for themselves.
        refused: what was not read at all: links, devices, names that lead outside.
        ignored_folders: folders inside a folder, which are not entered.
    """

    pictures: tuple[SourceFile, ...] = ()
    captions: dict[str, SourceFile] = field(default_factory=dict)
    caption_index: Captions = field(default_factory=Captions)
    side_files: tuple[str, ...] = ()
    refused: tuple[Refusal, ...] = ()
    ignored_folders: tuple[str, ...] = ()

    def fingerprint(self) -> list[list[str]]:
        """Return names and digests of everything that counts, sorted: equal for equal sources."""
        files = [*self.pictures, *self.captions.values(), *self.caption_index.tables]
        return sorted(
            [[file.name, file.sha256] for file in files]
            + [[refusal.name, refusal.reason] for refusal in self.refused]
        )


def collect(
    source: str, folder: Path, *, settings: Settings, limits: Limits | None = None
) -> Collection:
    """Copy the files of a source into a scratch folder.

    Args:
        source: a folder, a .zip or .tar(.gz, .bz2, .xz) archive, or an `s3://bucket/prefix`.
            Subfolders of a folder are not entered, save those of kohya's layout; archives and
            prefixes are read whole.
        folder: scratch folder for the copies; created.
        settings: names the object store, for s3://.
        limits: caps; None takes the defaults.

    Raises:
        ConfigError: the source does not exist or is of another kind.
        DataError: it holds no picture, is damaged, or exceeds the limits.
    """
    intake = Intake(folder, source=shown_name(source), limits=limits or Limits())
    ignored_folders: tuple[str, ...] = ()
    if source.startswith("s3://"):
        _take_objects(source, intake, settings=settings)
    else:
        path = _local_path(source)
        if path.is_dir():
            ignored_folders = _take_folder(path, intake)
        else:
            take_archive(path, intake)
    collection = _sorted_out(intake)
    if not collection.pictures and not collection.refused:
        raise DataError(
            f"{intake.source} holds no pictures.",
            remedy="Put 3 to 5 pictures of the subject there as JPEG, HEIC, PNG or WebP"
            + (" (subfolders are not read)." if ignored_folders else "."),
        )
    return replace(collection, ignored_folders=ignored_folders)


def _local_path(source: str) -> Path:
    """Return the existing local path that a source names."""
    if "://" in source:
        raise ConfigError(
            f"subject.images is {shown_name(source)}, which cannot be read.",
            remedy="Give a folder, a .zip or .tar archive, or an s3:// prefix.",
        )
    path = Path(source).expanduser()
    if not (path.is_dir() or path.is_file()):
        raise ConfigError(
            f"subject.images is {shown_name(source)}, but there is no such folder or archive.",
            remedy="Check the path; relative paths start at the current folder.",
        )
    return path


def _take_folder(folder: Path, intake: Intake) -> tuple[str, ...]:
    """Take the files of a folder, and of those below it that kohya's layout names.

    Returns:
        The names of the other folders in it.
    """
    root = folder.resolve()
    named = kohya.folders_in(folder)
    ignored: list[str] = []
    for place in (folder, *named):
        prefix = "" if place == folder else f"{place.relative_to(folder).as_posix()}/"
        with os.scandir(place) as entries:
            for entry in sorted(entries, key=lambda item: item.name):
                if not intake.wants(entry.name):
                    continue
                if not _is_folder(entry):
                    _take_entry(Path(entry.path), f"{prefix}{entry.name}", root, intake)
                elif not any(Path(entry.path) in (n, *n.parents) for n in named):
                    ignored.append(clean_name(f"{prefix}{entry.name}"))
    return tuple(ignored)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    """Return whether an entry is a folder; a link that leads to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _take_entry(path: Path, name: str, root: Path, intake: Intake) -> None:
    """Take one entry of a folder, unless it is not a file inside it."""
    try:
        is_inside = path.resolve().is_relative_to(root)
        is_file = path.is_file()
    except (OSError, RuntimeError) as error:  # a ring of links is either
        is_ring = isinstance(error, RuntimeError) or error.errno == errno.ELOOP
        reason = "is a link that leads to itself" if is_ring else f"cannot be read: {error}"
        intake.refuse(name, reason, "Copy the picture itself here, or remove the link.")
        return
    if not is_inside:
        advice = "Copy the picture itself here."
        intake.refuse(name, "is a link that leads out of the folder", advice)
    elif path.is_symlink() and not path.exists():
        advice = "Copy the picture itself here, or remove the link."
        intake.refuse(name, "is a link to a file that does not exist", advice)
    elif not is_file:
        intake.refuse(name, "is not a regular file", "Remove it.")
    else:
        _take_path(path, name, intake)


def _take_path(path: Path, name: str, intake: Intake) -> None:
    """Take one regular file; a file that became a pipe meanwhile does not block."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        intake.refuse(
            name, f"cannot be read: {error.strerror}", "Check who owns it and its permissions."
        )
        return
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            intake.refuse(name, "is not a regular file", "Remove it.")
        elif not intake.is_too_large(name, status.st_size):
            intake.take(name, stream)


def _take_objects(source: str, intake: Intake, *, settings: Settings) -> None:
    """Take the objects below an s3:// prefix."""
    from boothline.store.s3 import Bucket

    bucket_name, _, prefix = source.removeprefix("s3://").partition("/")
    if not bucket_name:
        raise ConfigError(
            "subject.images is s3:// without a bucket.", remedy="Write s3://bucket/prefix."
        )
    folder = prefix.rstrip("/") + "/" if prefix.strip("/") else ""
    if _climbs(folder):
        raise ConfigError(
            f"subject.images is {source}, whose prefix has a part '.' or '..'.",
            remedy="Copy the pictures below a prefix without one.",
        )
    # The prefix of the store itself is for what Boothline writes.
    brisk = not settings.run_id  # in a run no person waits
    bucket = replace(Bucket.connect(settings, brisk=brisk), name=bucket_name, prefix="")
    for key in bucket.keys(folder):
        name = key[len(folder) :]
        if not name or name.endswith("/") or not intake.wants(name):
            continue
        if _climbs(key):
            intake.refuse(name, "has a part '.' or '..' in its key", "Copy it to another key.")
            continue
        size_bytes = bucket.size(key) or 0
        if intake.is_too_large(name, size_bytes):
            continue
        chunks: list[bytes] = []
        bucket.receive(key, chunks.append, size_bytes=size_bytes)
        intake.take(name, BytesIO(b"".join(chunks)))


def _climbs(key: str) -> bool:
    """Return whether a key has a part that clients take for a step to another folder."""
    return not {".", ".."}.isdisjoint(key.split("/"))


def _sorted_out(intake: Intake) -> Collection:
    """Sort the files by name into pictures, captions, and what is passed over."""
    files = sorted(intake.files, key=lambda file: file.name)
    side = [file for file in files if is_side_file(file.name)]
    rest = [file for file in files if file not in side]
    pictures = [file for file in rest if not is_sidecar(file.name)]
    stems = frozenset(
        spelt_loosely(stem_of(file.name))
        for file in pictures
        if not is_film_of(file.name, frozenset({spelt_loosely(stem_of(file.name))}))
    )
    films = [file.name for file in pictures if is_film_of(file.name, stems)]
    films += [item.name for item in intake.refused if is_film_of(item.name, stems)]
    kept = tuple(file for file in pictures if file.name not in films)
    captions = assign(kept, [file for file in rest if is_sidecar(file.name)])
    refused = [item for item in intake.refused if item.name not in films]
    return Collection(
        pictures=kept,
        captions=captions.files,
        caption_index=captions,
        side_files=tuple(sorted([*films, *(file.name for file in side)])),
        refused=tuple(sorted(refused, key=lambda refusal: refusal.name)),
    )
