"""Finds a run by its id: in the home folder, or in the store that the settings name."""

import re
from dataclasses import dataclass
from pathlib import Path

from boothline import settings as environment
from boothline.errors import ConfigError
from boothline.launch.local.folder import RunFolder, existing_folder
from boothline.launch.local.session import Session, home_folder, open_session
from boothline.runs import read_run, read_steps

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True)
class FoundRun:
    """A run and what it is looked at with.

    Attributes:
        session: the open home folder and its store.
        folder: the run's folder, which does not exist where the run ran elsewhere.
        elsewhere: whether it ran elsewhere, on a cluster say: only its records are known here.
    """

    session: Session
    folder: RunFolder
    elsewhere: bool = False


def find_run(home: Path | None, run_id: str | None) -> FoundRun:
    """Return a run of this home folder or, by its records, one that ran elsewhere.

    Args:
        home: the home folder; None: the setting's.
        run_id: the run; None: the last one of the home folder.

    Raises:
        ConfigError: there is no such run.
        ServiceError: the store is unreachable.
    """
    folder_of_home = home_folder(home)
    try:
        folder = existing_folder(folder_of_home, run_id)
    except ConfigError:
        if run_id is None or not _is_recorded(home, run_id):
            raise
        path = (folder_of_home / "runs" / run_id).resolve()
        return FoundRun(
            session=open_session(home, start=False), folder=RunFolder(path), elsewhere=True
        )
    return FoundRun(session=open_session(home, start=False), folder=folder)


def _is_recorded(home: Path | None, run_id: str) -> bool:
    """Return whether a store that the settings name has records of a run."""
    if not environment.current().s3_endpoint or not _RUN_ID.fullmatch(run_id):
        return False
    store = open_session(home, start=False).store
    return read_run(store, run_id) is not None or bool(read_steps(store, run_id))
