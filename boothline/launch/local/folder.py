"""The local folder of a run, and who may use a home folder now."""

import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import yaml

from boothline.config import RunConfig
from boothline.errors import ConfigError

ACTIVE_FILE = "active.json"
LOCK_FILE = "run.lock"
RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")


def new_run_id(now: datetime) -> str:
    """Return a name for a run that starts now: `YYYYMMDD-HHMMSS-<4 hex>`."""
    return f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


@dataclass(frozen=True)
class RunFolder:
    """`<home>/runs/<run id>`: configuration, events and logs of one run."""

    path: Path

    @property
    def run_id(self) -> str:
        """Name of the run."""
        return self.path.name

    @property
    def config_path(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def logs(self) -> Path:
        """Folder of one log a step or shard."""
        return self.path / "logs"

    @property
    def kfp_log(self) -> Path:
        """What KFP itself says."""
        return self.path / "kfp.log"

    @property
    def in_containers(self) -> bool:
        """Whether the steps run in our images under Docker."""
        return (self.path / "containers").exists()

    def use_containers(self) -> None:
        """Create the folder and remember that the steps run in containers."""
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "containers").touch()

    def add_attempt(self, seconds: float) -> None:
        """Remember how long an attempt at the run took."""
        with (self.path / "attempts").open("a", encoding="utf-8") as stream:
            stream.write(f"{seconds:.3f}\n")

    @property
    def attempts(self) -> list[float]:
        """Seconds of each attempt at the run that has ended, the first one first."""
        path = self.path / "attempts"
        return [float(line) for line in path.read_text("utf-8").split()] if path.exists() else []

    @property
    def report(self) -> Path:
        """The report's local copy."""
        return self.path / "report.html"

    def read_logs(self, step: str | None) -> dict[str, str]:
        """Return the logs by the name of step or shard, in the order they were started.

        Args:
            step: a step (all its shards) or a shard, `kfp` for KFP's own log, None for all steps.
        """
        return {
            path.stem: path.read_text(encoding="utf-8", errors="replace")
            for path in self.log_files(step)
        }

    def log_files(self, step: str | None) -> list[Path]:
        """Return the files of the logs that `read_logs` reads, in the order they were started."""
        paths = [self.kfp_log] if step == "kfp" else list(self.logs.glob("*.log"))
        chosen = [
            path
            for path in paths
            if path.is_file()
            and (step is None or path.stem == step or path.stem.rpartition("-")[0] == step)
        ]
        return sorted(chosen, key=lambda path: path.stat().st_mtime)

    @property
    def pipeline(self) -> str:
        """Name of the pipeline that runs."""
        path = self.path / "pipeline"
        return path.read_text(encoding="utf-8").strip() if path.exists() else "dreambooth"

    def write_config(self, config: RunConfig, *, pipeline: str = "dreambooth") -> None:
        """Create the folder with the name of the pipeline and the resolved configuration."""
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "pipeline").write_text(f"{pipeline}\n", encoding="utf-8")
        text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        temporary = self.config_path.with_suffix(".tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(self.config_path)

    def read_config(self) -> RunConfig:
        """Return the configuration that the run was started with."""
        return RunConfig.model_validate(
            yaml.safe_load(self.config_path.read_text(encoding="utf-8"))
        )


def folder_of(home: Path, run_id: str) -> RunFolder:
    """Return the folder of a run, existing or not.

    Raises:
        ConfigError: this is not a run id.
    """
    if RUN_ID.fullmatch(run_id) is None:
        raise ConfigError(
            f"{run_id!r} is not a run id.",
            remedy="It has the form 20260131-093000-1a2b; see boothline status.",
        )
    return RunFolder((home / "runs" / run_id).resolve())


def run_folders(home: Path) -> list[RunFolder]:
    """Return the folders of all runs of a home, oldest first."""
    paths = sorted((home / "runs").glob("*/config.yaml"))
    return [
        RunFolder(path.parent.resolve()) for path in paths if RUN_ID.fullmatch(path.parent.name)
    ]


def existing_folder(home: Path, run_id: str | None) -> RunFolder:
    """Return the folder of a run that was started here; without a run id, the last one's.

    Raises:
        ConfigError: there is no such run.
    """
    folders = run_folders(home)
    if run_id is None and folders:
        return folders[-1]
    if run_id is not None and (folder := folder_of(home, run_id)) in folders:
        return folder
    what = "no run" if run_id is None else f"no run {run_id}"
    last = f" The last one is {folders[-1].run_id}." if folders else " boothline run starts one."
    raise ConfigError(f"There is {what} in {home}.", remedy=f"Check --home.{last}")


@contextmanager
def only_run(home: Path, run_id: str) -> Iterator[None]:
    """Hold a home folder for one run.

    Raises:
        ConfigError: another run holds it.
    """
    from filelock import FileLock, Timeout

    home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home / LOCK_FILE)
    owner = home / ACTIVE_FILE
    try:
        lock.acquire(timeout=1)
    except Timeout:
        raise ConfigError(
            f"Run {_owner(owner)} is active in {home}.",
            remedy="Wait for it (boothline status), stop it with Ctrl-C, or use another --home.",
        ) from None
    try:
        owner.write_text(json.dumps({"run_id": run_id, "pid": os.getpid()}), encoding="utf-8")
        yield
        owner.unlink(missing_ok=True)
    finally:
        lock.release()


def is_active(home: Path, run_id: str) -> bool:
    """Return whether a run holds the home folder now."""
    from filelock import FileLock, Timeout

    if not (home / LOCK_FILE).exists():
        return False
    try:
        with FileLock(home / LOCK_FILE, timeout=0):
            return False
    except Timeout:
        return _owner(home / ACTIVE_FILE).startswith(run_id)


def active_process(home: Path, run_id: str) -> int | None:
    """Return the process that runs a run now; None where none does."""
    if not is_active(home, run_id):
        return None
    try:
        return int(json.loads((home / ACTIVE_FILE).read_text(encoding="utf-8"))["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _owner(path: Path) -> str:
    """Return which run and process hold a home folder, as text."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return f"{value['run_id']} (process {value['pid']})"
    except (OSError, ValueError, KeyError):
        return "of another process"
