"""Reads .zip and .tar archives member by member; a member's name never becomes a path."""

import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path, PurePosixPath, PureWindowsPath

from boothline.data.intake import Intake
from boothline.data.naming import clean_name
from boothline.errors import BoothlineError, ConfigError, DataError

_MAX_TRAILING_CHUNKS = 1000
_ADVICE = "Pack the pictures themselves, as plain files."
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
        ConfigError: the file is no archive that is known.
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
    elif _is_tar(path):
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
                with archive.open(member) as stream:
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
    """Tell whether tarfile's own data filter lets the member through and it is a regular file."""
    try:
        tarfile.data_filter(member, str(path.parent))
    except tarfile.FilterError:
        return False
    return member.isfile()


def leads_outside(name: str) -> bool:
    """Tell whether a member's name is absolute, climbs with `..`, or does so on Windows."""
    windows = PureWindowsPath(name)
    return (
        PurePosixPath(name).is_absolute()
        or bool(windows.drive or windows.root)
        or ".." in windows.parts
        or "\0" in name
    )


def _plain(name: str) -> str:
    return clean_name(name).removeprefix("./")
