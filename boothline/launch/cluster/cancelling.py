"""Cancels a run on a cluster: its pods go, its records and its report say so."""

import threading
import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from boothline.catalogue import steps_of
from boothline.errors import BoothlineError, ConfigError, ServiceError
from boothline.launch.cluster.client import CANCELED, FAILED, PipelinesApi
from boothline.launch.cluster.deployment import Deployment
from boothline.launch.cluster.pods import RunPods
from boothline.launch.cluster.runs import Patience, found
from boothline.launch.cluster.standing import Sources
from boothline.launch.cluster.states import ClusterRun, config_of, described
from boothline.runs import Failure, StepRecord, read_steps, write_step
from boothline.settings import Settings
from boothline.store import Store
from boothline.trainjob.cluster import Cluster

if TYPE_CHECKING:
    from kfp_server_api import V2beta1Run

_INTERRUPTED = 130
PATIENCE = Patience(poll_seconds=2.0, timeout_seconds=60.0)


class Cancelled(BaseModel):
    """What became of a run that was cancelled."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    kfp_run_id: str
    state: str
    train_jobs: list[str] = Field(description="TrainJobs that were deleted.")
    pods: list[str] = Field(description="Pods that have not ended yet.")
    report: str = Field(description="Reference of the report; empty: none could be written.")
    seconds: float = Field(description="From the request until the pods had ended.")
    notes: list[str] = Field(default_factory=list, description="What could not be done from here.")


def cancel(
    api: PipelinesApi,
    deployment: Deployment,
    run_id: str,
    *,
    settings: Settings,
    patience: Patience = PATIENCE,
) -> Cancelled:
    """End a run, wait until its pods have ended, and write its report.

    Kubeflow Pipelines stops a run at once: neither its exit handler runs nor is a train step given
    the time to delete its TrainJob. Both are made up for from here, as far as the store and the
    Kubernetes API are known. `resume` starts the run again.

    Raises:
        NotFoundError: there is no such run.
        ConfigError: it has ended already.
        ServiceError: a service is away or refuses.
    """
    run = found(api, run_id)
    now = described(run, deployment)
    if now.is_over:
        raise ConfigError(
            f"Run {run_id} is {now.state}; there is nothing to cancel.",
            remedy=f"See boothline status {run_id} --deployment FILE.",
        )
    started = time.monotonic()
    sources = Sources.connect(deployment, settings)
    # The train step may delete its own TrainJob; its pods then have their grace period still.
    jobs = _train_jobs(sources.pods, now.run_id)
    api.cancel(now.kfp_run_id)
    deleted = _delete_train_jobs(sources.pods, deployment, now.run_id)
    jobs |= set(deleted)
    state, left = _wait(api, deployment, now, sources.pods, jobs=jobs, patience=patience)
    seconds = round(time.monotonic() - started, 1)
    report, notes = "", list(sources.notes)
    try:
        report = _report(sources.store, run, now) if sources.store else ""
    except BoothlineError as error:  # the run is cancelled all the same
        notes.append(f"No report was written. {error}")
    return Cancelled(
        run_id=now.run_id,
        kfp_run_id=now.kfp_run_id,
        state=CANCELED if state == FAILED else state,  # its history may lack it
        train_jobs=deleted,
        pods=left,
        report=report,
        seconds=seconds,
        notes=notes,
    )


def _train_jobs(pods: RunPods | None, run_id: str) -> set[str]:
    """Return the names of the TrainJobs that a run started, as far as they can be seen."""
    return set() if pods is None else set(pods.train_jobs(run_id))


def _delete_train_jobs(pods: RunPods | None, deployment: Deployment, run_id: str) -> list[str]:
    """Delete the TrainJobs that a run started, and return their names."""
    if names := sorted(_train_jobs(pods, run_id)):
        cluster = Cluster.connect(deployment.kfp.namespace)
        for name in names:
            cluster.delete(name)
    return names


def _wait(
    api: PipelinesApi,
    deployment: Deployment,
    run: ClusterRun,
    pods: RunPods | None,
    *,
    jobs: Collection[str],
    patience: Patience,
) -> tuple[str, list[str]]:
    """Wait until a run and its pods have ended; return its state and the pods that have not."""
    pause, deadline = threading.Event(), time.monotonic() + patience.timeout_seconds
    while True:
        state, left = run.state, ["unknown"]
        try:
            run = described(api.run(run.kfp_run_id), deployment)
            state, left = run.state, _active(pods, run, jobs)
        except ServiceError:
            if time.monotonic() > deadline:
                raise
        if (run.is_over and not left) or time.monotonic() > deadline:
            return state, left
        pause.wait(patience.poll_seconds)


def _active(pods: RunPods | None, run: ClusterRun, jobs: Collection[str]) -> list[str]:
    """Return the names of a run's pods that have not ended, also those of deleted TrainJobs."""
    if pods is None:
        return []
    found_pods = pods.of_run(run.kfp_run_id, run_id=run.run_id, jobs=jobs, progress=False)
    return [pod.name for pod in found_pods if pod.is_active]


def _report(store: Store, run: "V2beta1Run", standing: ClusterRun) -> str:
    """Record that the run was cancelled and write its report, as its exit handler would have."""
    from boothline.components.finish_run.step import run as finish

    _mark(store, standing)
    return finish(run_id=standing.run_id, config=config_of(run).model_dump_json())


def _mark(store: Store, run: ClusterRun) -> None:
    """Let the step that was running, or would have been the next, say that it was cancelled."""
    records = read_steps(store, run.run_id)
    failure = Failure(
        type="InterruptedRunError", message="The run was cancelled.", exit_code=_INTERRUPTED
    )
    running = [record for record in records if record.status == "running"]
    reached = {record.step for record in records}
    if not running:
        steps = [step for step in steps_of(run.pipeline) if not step.optional]
        following = [step for step in steps if step.name not in reached]
        running = (
            [StepRecord(step=following[0].name, status="failed", started_at=time.time())]
            if following
            else []
        )
    for record in running:
        update = {"status": "failed", "failure": failure}
        write_step(store, run.run_id, record.model_copy(update=update))
