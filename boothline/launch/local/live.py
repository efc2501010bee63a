"""How far a running run is, seen from another process: by the events in its folder."""

import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from boothline.catalogue import steps_of
from boothline.launch.local.events import EventTail, RunProgress
from boothline.launch.local.folder import ACTIVE_FILE, RunFolder


class LiveStep(BaseModel):
    """How far one step of a running run is, its shards or trials together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: str
    status: str = Field(description="waiting, running, done, reused or failed.")
    done: int
    total: int
    unit: str
    note: str
    seconds: float
    seconds_left: float | None = Field(description="None when unknown.")


def progress_of(home: Path, folder: RunFolder) -> RunProgress:
    """Return how far the current attempt at a run is; waiting everywhere when it has none.

    Args:
        home: the home folder, which knows when the active attempt began.
        folder: the run's folder.
    """
    progress = RunProgress([step.name for step in steps_of(folder.pipeline)])
    active = home / ACTIVE_FILE
    since = active.stat().st_mtime if active.exists() else 0.0
    for event in EventTail(folder.path, since=since).read():
        progress.apply(event)
    return progress


def live_steps(progress: RunProgress, *, now: float | None = None) -> list[LiveStep]:
    """Return the steps of a progress as plain values.

    Args:
        progress: how far the run is.
        now: seconds since the epoch; None: the clock's.
    """
    at = time.time() if now is None else now
    return [
        LiveStep(
            step=step.name,
            status="reused" if step.reused else step.state,
            done=step.done,
            total=step.total,
            unit=step.unit,
            note=step.note if step.state == "running" else step.remark,
            seconds=round(step.seconds(at), 1),
            seconds_left=None if (left := step.seconds_left(at)) is None else round(left, 1),
        )
        for step in progress.steps.values()
    ]
