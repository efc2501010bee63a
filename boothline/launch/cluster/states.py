"""How runs on Kubeflow Pipelines stand, as Boothline shows them."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from boothline.catalogue import PIPELINES
from boothline.config import RunConfig
from boothline.config.form import completed
from boothline.launch.cluster.client import CANCELED, FAILED, FINAL, SUCCEEDED
from boothline.launch.cluster.deployment import Deployment
from boothline.runs import JOB, resolved_run_id

if TYPE_CHECKING:
    from kfp_server_api import V2beta1Run

CANCELLING = "CANCELING"
# An attempt at a task that is tried again.
_ATTEMPT = re.compile(r"\(\d+\)$")


class ClusterTask(BaseModel):
    """One task of a run, as Kubeflow Pipelines reports it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    state: str
    error: str = ""


class ClusterStep(BaseModel):
    """One step or shard of a run on a cluster, as Boothline itself reports it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    status: str = Field(description="waiting, running, done, reused, failed or interrupted.")
    seconds: float = 0.0
    done: int = 0
    total: int = 0
    unit: str = ""
    pod: str = Field(default="", description="Its last pod; empty when unknown.")
    note: str = Field(default="", description="Progress, or why it waits or failed.")
    manifest: str = ""


class ClusterRun(BaseModel):
    """One run on a cluster."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    kfp_run_id: str
    pipeline: str = "dreambooth"
    state: str = Field(
        description="State in Kubeflow Pipelines, e.g. RUNNING; FAILED if a task failed, "
        "CANCELED if somebody cancelled it."
    )
    error: str = ""
    steps: list[ClusterStep] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list, description="What is not known from here.")
    tasks: list[ClusterTask] = Field(
        default_factory=list, exclude=True, description="Nodes of Kubeflow's own graph."
    )
    url: str

    @property
    def is_over(self) -> bool:
        """Whether it will not change any more."""
        return self.state in FINAL


def described(run: "V2beta1Run", deployment: Deployment) -> ClusterRun:
    """Return a run by Boothline's own steps."""
    details = run.run_details.task_details if run.run_details else None
    tasks = [
        ClusterTask(
            name=str(task.display_name or task.task_id),
            state=str(task.state or ""),
            error=str(task.error.message or "") if task.error else "",
        )
        for task in details or []
    ]
    state, error = str(run.state or "PENDING"), str(run.error.message or "") if run.error else ""
    if state == SUCCEEDED and (failed := _failed(tasks)):
        state = FAILED
        error = f"Kubeflow Pipelines says {SUCCEEDED}, but {', '.join(failed)} failed"
    if state == FAILED and was_cancelled(run):
        state, error = CANCELED, ""
    return ClusterRun(
        run_id=run_id_of(run),
        kfp_run_id=str(run.run_id),
        pipeline=pipeline_of(run),
        state=state,
        error=error,
        tasks=sorted(tasks, key=lambda task: task.name),
        url=f"{deployment.kfp.host.rstrip('/')}/#/runs/details/{run.run_id}",
    )


def was_cancelled(run: "V2beta1Run") -> bool:
    """Whether somebody cancelled a run; Kubeflow Pipelines calls it FAILED when it has ended."""
    return any(status.state == CANCELLING for status in run.state_history or [])


def _failed(tasks: Sequence[ClusterTask]) -> list[str]:
    """Return the names of the tasks that failed for good.

    An exit handler that ends well makes a run SUCCEEDED whatever failed before it. A failed
    attempt, `executor(0)`, does not count where a later one of that task succeeded.
    """
    well = {_ATTEMPT.sub("", task.name) for task in tasks if task.state == SUCCEEDED}
    return sorted(
        {
            task.name
            for task in tasks
            if task.state == FAILED
            and not (_ATTEMPT.search(task.name) and _ATTEMPT.sub("", task.name) in well)
        }
    )


def pipeline_of(run: "V2beta1Run") -> str:
    """Return the name of the pipeline that a run carries; dreambooth where it does not say."""
    spec = run.pipeline_spec or {}
    inner = spec.get("pipeline_spec", spec)
    name = str(inner.get("pipelineInfo", {}).get("name", "dreambooth"))
    # kfp writes no underscore into a compiled pipeline.
    return next((ours for ours in PIPELINES if ours.replace("_", "-") == name), name)


def config_of(run: "V2beta1Run") -> RunConfig:
    """Return the configuration that a run was started with.

    Raises:
        ConfigError: what it was started with is not one.
    """
    values = (run.runtime_config.parameters if run.runtime_config else None) or {}
    return completed(str(values.get("config") or ""), values, pipeline=pipeline_of(run))


def run_id_of(run: "V2beta1Run") -> str:
    """Return our run id of a run: its name, or what a run of a recurring run makes of its own."""
    given = run.runtime_config.parameters if run.runtime_config else None
    template = str((given or {}).get("run_id", ""))
    if JOB in template:
        return resolved_run_id(template, job_id=str(run.run_id))
    return str(run.display_name)
