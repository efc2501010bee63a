"""The spool: what a step has to tell MLflow, as a file that survives the step."""

import fcntl
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict

from boothline.settings import Settings

logger = logging.getLogger(__name__)

EntryKind = Literal["params", "metrics", "tags", "artifact", "status"]
_SUFFIX = ".jsonl"


class Entry(BaseModel):
    """One line of a spool.

    Every entry has the same effect however often it is sent, since it carries its own time: so a
    sender that dies between sending and noting it down does no harm.

    Attributes:
        kind: what the line holds.
        time_ms: when it was logged, in milliseconds since the epoch.
        numbers: of `metrics`.
        step: training step of `metrics`.
        texts: of `params` and `tags`.
        file: of `artifact`: name in the folder of copied files.
        folder: of `artifact`: folder among the run's artifacts.
        status: of `status`: how the run ended.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    kind: EntryKind
    time_ms: int
    numbers: Mapping[str, float] = {}
    step: int = 0
    texts: Mapping[str, str] = {}
    file: str = ""
    folder: str = ""
    status: str = ""


def spool_folder(settings: Settings, run_id: str) -> Path:
    """Return where the spools of a run lie on this machine."""
    if settings.run_dir is not None:
        return settings.run_dir / "spool"
    return settings.home / "spool" / run_id


class Spool:
    """One spool: an append-only file, the offset up to which it was sent, and copies of files.

    Args:
        path: `<step>.<id>.jsonl`; nothing is made on disk before the first entry.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.step = path.name.split(".", 1)[0]
        self.files = path.with_suffix(".files")
        self._sent = path.with_suffix(".sent")

    @classmethod
    def new(cls, folder: Path, step: str) -> "Spool":
        """Return an empty spool for one attempt at a step."""
        return cls(folder / f"{step}.{uuid4().hex[:12]}{_SUFFIX}")

    def read(self, *, max_entries: int = 200) -> tuple[list[Entry], int]:
        """Return the next unsent entries and the offset to acknowledge once they are sent.

        A last line without its end, left by a killed process, is not read.
        """
        offset = self._offset()
        entries: list[Entry] = []
        if not self.path.exists():
            return entries, offset
        with self.path.open("rb") as stream:
            stream.seek(offset)
            for line in stream:
                if len(entries) == max_entries or not line.endswith(b"\n"):
                    break
                entries.append(Entry.model_validate_json(line))
                offset += len(line)
        return entries, offset

    def acknowledge(self, offset: int) -> None:
        """Note down that everything before an offset was sent."""
        self._sent.write_text(str(offset), encoding="ascii")

    def remove(self) -> None:
        """Delete the spool and its copies of files."""
        shutil.rmtree(self.files, ignore_errors=True)
        self._sent.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def _offset(self) -> int:
        """Return how far the spool was sent; an offset torn by a kill counts as nothing sent."""
        text = self._sent.read_text(encoding="ascii") if self._sent.exists() else ""
        return int(text) if text.isdigit() else 0


class SpoolWriter:
    """Appends to a spool and holds its lock for as long as it is open.

    Args:
        spool: made on disk now.

    Raises:
        OSError: the disk is full or not writable.
    """

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        spool.path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = spool.path.open("ab")
        fcntl.flock(self._stream, fcntl.LOCK_EX)

    def append(self, entry: Entry) -> None:
        """Append one entry; the operating system has it when this returns.

        Raises:
            OSError: the disk is full.
        """
        self._stream.write(entry.model_dump_json(exclude_defaults=True).encode() + b"\n")
        self._stream.flush()

    def copy_in(self, path: Path) -> str:
        """Copy a file next to the spool and return the copy's name there.

        Raises:
            OSError: the file is missing or the disk is full.
        """
        number = time.time_ns()
        target = self.spool.files / str(number) / path.name
        target.parent.mkdir(parents=True)
        shutil.copyfile(path, target)
        return f"{number}/{path.name}"

    def close(self) -> None:
        """Give up the lock: from now on another process may send what is left."""
        self._stream.close()


@contextmanager
def orphans(folder: Path) -> Iterator[list[Spool]]:
    """Give the spools in a folder whose writers are gone, locked against any other sender."""
    streams = []
    spools = []
    try:
        for path in sorted(folder.glob(f"*{_SUFFIX}")):
            stream = path.open("rb")
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stream.close()
                logger.info("%s is still being written; left alone", path)
                continue
            streams.append(stream)
            spools.append(Spool(path))
        yield spools
    finally:
        for stream in streams:
            stream.close()
