"""What the store remembers of a run: its configuration and what became of each step."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from boothline import errors
from boothline.errors import (
    BoothlineError,
    ConfigError,
    DiskFullError,
    TrainingError,
    is_disk_full,
)
from boothline.metering import Usage
from boothline.progress import label_of
from boothline.store import Store, layout

if TYPE_CHECKING:
    from boothline.config import RunConfig

StepStatus = Literal["running", "done", "failed"]
RunStatus = Literal["running", "done", "refused", "failed", "interrupted"]

_TRIAL = re.compile(r"(?P<run_id>.+)-t(?P<number>\d{2,})")
_NUM_READERS = 8

JOB = "@job"
"""Stands in a run id for the id that the pipeline engine gives the run."""


def resolved_run_id(run_id: str, *, job_id: str) -> str:
    """Return a run id with the engine's own id in place of `@job`.

    A recurring run is registered once and started many times, so its run id can only be made when
    it runs.

    Args:
        run_id: as the pipeline was started with.
        job_id: id of the run in the pipeline engine; empty where there is none.

    Raises:
        ConfigError: the id is needed and missing.
    """
    if JOB not in run_id:
        return run_id
    if not job_id:
        raise ConfigError(
            f"The run id {run_id!r} needs the pipeline engine's id, and BOOTHLINE_JOB_ID is empty.",
            remedy="boothline compile --deployment FILE sets it from the pod's label "
            "pipeline/runid.",
        )
    return run_id.replace(JOB, job_id)


def trial_run_id(run_id: str, number: int) -> str:
    """Return the name under which a trial of a sweep keeps its records."""
    return f"{run_id}-t{number:02d}"


def trial_of(run_id: str) -> tuple[str, int] | None:
    """Return the sweep and the number of a trial; None for a run that is not a trial."""
    match = _TRIAL.fullmatch(run_id)
    return None if match is None else (match["run_id"], int(match["number"]))


class Failure(BaseModel):
    """Why a step or run failed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str
    message: str
    remedy: str = ""
    exit_code: int = 1

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """Return what is recorded of an exception."""
        kind = type(error).__name__
        if isinstance(error, BoothlineError):
            return cls(
                type=kind, message=error.message, remedy=error.remedy, exit_code=error.exit_code
            )
        if is_disk_full(error):
            return cls.of(
                DiskFullError(
                    f"No space is left for {getattr(error, 'filename', '') or 'a file'}.",
                    remedy="Free some space, then resume the run.",
                )
            )
        exit_code = 130 if isinstance(error, KeyboardInterrupt) else 1
        return cls(type=kind, message=str(error) or kind, exit_code=exit_code)

    def error(self) -> BoothlineError:
        """Return it as the class it had; as `TrainingError` where that is not one of ours."""
        kind = getattr(errors, self.type, None)
        if not (isinstance(kind, type) and issubclass(kind, BoothlineError)):
            kind = TrainingError
        return kind(self.message, remedy=self.remedy)


class StepRecord(BaseModel):
    """What became of one step (or one shard of it) in one run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: str
    shard: int | None = None
    status: StepStatus
    reused: bool = False
    manifest: str = ""
    started_at: float = Field(description="Seconds since the epoch.")
    seconds: float = 0.0
    key_parts: dict[str, Any] = Field(default_factory=dict, description="What the key digests.")
    uses: tuple[str, ...] = Field(
        default=(), description="Results of the store in use while its own is being made."
    )
    failure: Failure | None = None
    usage: Usage | None = Field(default=None, description="What it cost; None: not measured.")

    @property
    def key(self) -> str:
        """The step's key: the last part of where its result is, or would be, committed."""
        return layout.key_of(self.key_parts)

    @property
    def label(self) -> str:
        """Name of the step or shard."""
        return label_of(self.step, self.shard)


class RunRecord(BaseModel):
    """One pipeline run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    pipeline: str = "dreambooth"
    profile: str = "local"
    status: RunStatus
    config: dict[str, Any]
    created_at: float = Field(description="Seconds since the epoch.")
    seconds: float = 0.0
    report: str = Field(default="", description="Reference of the report manifest.")
    mlflow_run_id: str = ""


def write_run(store: Store, record: RunRecord) -> None:
    """Store the record of a run, replacing the former one."""
    store.put_record(layout.run_record(record.run_id), record.model_dump(mode="json"))


def open_run(store: Store, run_id: str, config: "RunConfig", *, pipeline: str) -> None:
    """Record that a run has begun, or that it continues."""
    record = read_run(store, run_id) or RunRecord(
        run_id=run_id,
        pipeline=pipeline,
        status="running",
        config=config.model_dump(mode="json"),
        created_at=time.time(),
    )
    write_run(store, record.model_copy(update={"status": "running"}))


def read_run(store: Store, run_id: str) -> RunRecord | None:
    """Return the record of a run, or None."""
    value = store.get_record(layout.run_record(run_id))
    return None if value is None else RunRecord.model_validate(value)


def write_step(store: Store, run_id: str, record: StepRecord) -> None:
    """Store the record of a step, replacing the former one."""
    store.put_record(layout.step_record(run_id, record.label), record.model_dump(mode="json"))


def read_steps(store: Store, run_id: str) -> list[StepRecord]:
    """Return the records of a run's steps in the order they started."""
    paths = store.list_records(layout.step_records(run_id))
    with ThreadPoolExecutor(_NUM_READERS) as pool:
        records = [StepRecord.model_validate(value) for value in pool.map(store.get_record, paths)]
    return sorted(records, key=lambda record: record.started_at)
