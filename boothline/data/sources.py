"""Brings the files of a folder, an archive or an s3:// prefix into one scratch folder."""

import os
import stat
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path

from boothline.data.archives import take_archive
from boothline.data.intake import Intake, Refusal, SourceFile
from boothline.data.limits import Limits
from boothline.data.naming import clean_name, is_sidecar, shown_name, stem_of
from boothline.errors import ConfigError, DataError
from boothline.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Collection:
    """All files of a source, sorted by name.

    Attributes:
        pictures: what may be a picture (its bytes decide later).
        captions: caption files by the stem they share with a picture.
        refused: what was not read at all: links, devices, names that lead outside.
        ignored_folders: folders inside a folder, which are not entered.
    """

    pictures: tuple[SourceFile, ...] = ()
    captions: dict[str, SourceFile] = field(default_factory=dict)
    refused: tuple[Refusal, ...] = ()
    ignored_folders: tuple[str, ...] = ()

    def fingerprint(self) -> list[list[str]]:
        """Return names and digests of everything that counts, sorted: equal for equal sources."""
        files = [*self.pictures, *self.captions.values()]
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
            Subfolders of a folder are not entered; archives and prefixes are read whole.
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
            remedy="Put 3 to 5 pictures of the subject there as JPEG, PNG or WebP"
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
    """Take the files of a folder; returns the names of its subfolders."""
    subfolders: list[str] = []
    root = folder.resolve()
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda item: item.name):
            if not intake.wants(entry.name):
                continue
            path = Path(entry.path)
            if entry.is_dir():
                subfolders.append(clean_name(entry.name))
            elif not path.resolve().is_relative_to(root):
                intake.refuse(
                    entry.name,
                    "is a link that leads out of the folder",
                    "Copy the picture itself here.",
                )
            elif not path.is_file():
                intake.refuse(entry.name, "is not a regular file", "Remove it.")
            else:
                _take_path(path, entry.name, intake)
    return tuple(subfolders)


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
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            intake.take(name, stream)
        else:
            intake.refuse(name, "is not a regular file", "Remove it.")


def _take_objects(source: str, intake: Intake, *, settings: Settings) -> None:
    """Take the objects below an s3:// prefix."""
    from boothline.store.s3 import Bucket

    bucket_name, _, prefix = source.removeprefix("s3://").partition("/")
    if not bucket_name:
        raise ConfigError(
            "subject.images is s3:// without a bucket.", remedy="Write s3://bucket/prefix."
        )
    bucket = replace(Bucket.connect(settings), name=bucket_name)
    folder = prefix.rstrip("/") + "/" if prefix.strip("/") else ""
    for key in bucket.keys(folder):
        name = key[len(folder) :]
        if not name or name.endswith("/") or not intake.wants(name):
            continue
        size_bytes = bucket.size(key) or 0
        chunks: list[bytes] = []
        bucket.receive(
            key, chunks.append, size_bytes=min(size_bytes, intake.limits.max_file_bytes + 1)
        )
        intake.take(name, BytesIO(b"".join(chunks)))


def _sorted_out(intake: Intake) -> Collection:
    """Sort the files by name into pictures and captions; other sidecars are dropped."""
    files = sorted(intake.files, key=lambda file: file.name)
    pictures = tuple(file for file in files if not is_sidecar(file.name))
    stems = {stem_of(file.name) for file in pictures}
    captions = {
        stem_of(file.name): file
        for file in files
        if file.name.lower().endswith(".txt") and stem_of(file.name) in stems
    }
    return Collection(
        pictures=pictures,
        captions=captions,
        refused=tuple(sorted(intake.refused, key=lambda refusal: refusal.name)),
    )
