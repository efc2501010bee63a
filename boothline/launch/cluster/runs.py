"""Starts, follows, resumes and schedules runs on Kubeflow Pipelines."""

import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from boothline.config import RunConfig
from boothline.config.fields import MODELS, PATHS, named_in
from boothline.errors import (
    BoothlineError,
    ConfigError,
    InterruptedRunError,
    NotFoundError,
    ServiceError,
)
from boothline.launch.cluster.client import CANCELED, FAILED, SUCCEEDED, PipelinesApi
from boothline.launch.cluster.deployment import Deployment
from boothline.launch.cluster.placing import placed
from boothline.launch.cluster.states import (
    ClusterRun,
    config_of,
    described,
    pipeline_of,
    run_id_of,
)
from boothline.launch.cluster.versions import start_version
from boothline.launch.compile import compiled, pipeline_named
from boothline.launch.trials import planned
from boothline.pipelines.parameters import arguments
from boothline.runs import JOB

if TYPE_CHECKING:
    from kfp_server_api import V2beta1RecurringRun, V2beta1Run

# What Kubeflow Pipelines calls a run, at the end of the run id of a recurring run.
_JOB_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
_LONGEST_WAIT_SECONDS = 60.0
OnState = Callable[["ClusterRun"], None]
Look = Callable[["ClusterRun"], "ClusterRun"]


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How a run is waited for.

    Attributes:
        poll_seconds: pause between two looks.
        outage_seconds: longest time without an answer of the API.
        timeout_seconds: longest wait; 0: without end.
    """

    poll_seconds: float = 5.0
    outage_seconds: float = 300.0
    timeout_seconds: float = 0.0


def compile_for(
    deployment: Deployment, *, pipeline: str = "dreambooth", config: RunConfig | None = None
) -> str:
    """Return a pipeline's YAML with a deployment's settings in it.

    Args:
        deployment: the settings.
        pipeline: name of the pipeline.
        config: what it is for; None: one shard of each step.

    Raises:
        ConfigError: there is no such pipeline, or the settings do not fit it.
    """
    from boothline.pipelines.stages import Shape

    return placed(compiled(pipeline_named(pipeline, shape=Shape.of(config))), deployment)


def check_reachable(config: RunConfig) -> None:
    """Check that a pod can reach what the configuration names.

    Raises:
        ConfigError: pictures, prompts or a model lie in a folder of this machine.
    """
    for setting, value in named_in(config, PATHS).items():
        if not value.startswith("s3://"):
            raise ConfigError(
                f"{setting} is {value!r}, which no pod can read.",
                remedy="Upload it to the object store and name it as s3://bucket/prefix/.",
            )
    for setting, source in named_in(config, MODELS).items():
        if Path(source).is_absolute() or source.startswith("."):
            raise ConfigError(
                f"{setting} is the local folder {source!r}, which no pod can read.",
                remedy=f"Put it into the store, boothline base add {source} --name NAME, and name "
                "it base:NAME.",
            )


def _with_trials(config: RunConfig, pipeline: str) -> RunConfig:
    """Return the configuration of a sweep with its trials drawn, any other as it is.

    Raises:
        ConfigError: the sweep has nothing to try.
    """
    return planned(config) if pipeline == "sweep" else config


def run_request(
    api: PipelinesApi,
    deployment: Deployment,
    config: RunConfig,
    *,
    run_id: str,
    pipeline: str,
    experiment_id: str,
) -> "V2beta1Run":
    """Return what would be sent to start a run."""
    check_reachable(config)
    config = _with_trials(config, pipeline)
    return api.run_body(
        run_id,
        pipeline=compile_for(deployment, pipeline=pipeline, config=config),
        arguments=arguments(run_id, config, pipeline=pipeline),
        experiment_id=experiment_id,
    )


def submit(
    api: PipelinesApi,
    deployment: Deployment,
    config: RunConfig,
    *,
    run_id: str,
    pipeline: str,
    inline: bool = False,
) -> tuple[ClusterRun, bool]:
    """Start a run, or find the one that was started with this run id; return whether it is new.

    Args:
        api: Kubeflow Pipelines.
        deployment: where the run's pods go.
        config: the run's configuration.
        run_id: our name of it.
        pipeline: the pipeline.
        inline: whether the run carries the pipeline itself instead of naming a version of it.

    Raises:
        ConfigError: the configuration does not fit a cluster.
        ServiceError: the API is away or refuses.
    """
    body = run_request(api, deployment, config, run_id=run_id, pipeline=pipeline, experiment_id="")
    existing = api.find_run(run_id)
    if existing is not None:
        return described(existing, deployment), False
    body.experiment_id = api.experiment_id()
    return _started(api, deployment, body, pipeline=pipeline, inline=inline), True


def _started(
    api: PipelinesApi, deployment: Deployment, body: "V2beta1Run", *, pipeline: str, inline: bool
) -> ClusterRun:
    """Start a run, as a version of its pipeline unless it is to carry it."""
    spec = body.pipeline_spec
    if not inline:
        start_version(api, body, pipeline=pipeline)
    made = api.create_run(body)
    made.pipeline_spec = spec
    return described(made, deployment)


def resume(api: PipelinesApi, deployment: Deployment, run_id: str) -> ClusterRun:
    """Start a run that ended badly once more; steps that left a result are not repeated.

    Raises:
        NotFoundError: there is no such run.
        ConfigError: it still runs, or it succeeded.
    """
    former = found(api, run_id)
    state = described(former, deployment).state
    if state not in (FAILED, CANCELED):
        raise ConfigError(
            f"Run {run_id} is {state}; there is nothing to resume.",
            remedy="See boothline status, or submit a new run.",
        )
    pipeline, config = pipeline_of(former), config_of(former)
    body = api.run_body(
        run_id,
        pipeline=compile_for(deployment, pipeline=pipeline, config=config),
        arguments=arguments(run_id, config, pipeline=pipeline),
        experiment_id=str(former.experiment_id),
    )
    carried = former.pipeline_version_reference is None
    return _started(api, deployment, body, pipeline=pipeline, inline=carried)


def found(api: PipelinesApi, run_id: str) -> "V2beta1Run":
    """Return the newest run with our run id.

    Raises:
        NotFoundError: there is none.
    """
    by_job = _JOB_ID.search(run_id)
    if by_job:
        return api.run(by_job[0])
    run = api.find_run(run_id)
    if run is None:
        raise NotFoundError(
            f"Kubeflow Pipelines has no run {run_id}.",
            remedy="Check the run id, kfp.host and kfp.namespace.",
        )
    return api.run(str(run.run_id))


def follow(
    api: PipelinesApi,
    run: ClusterRun,
    *,
    deployment: Deployment,
    on_state: OnState,
    look: Look = lambda run: run,
    patience: Patience = Patience(),
) -> ClusterRun:
    """Wait until a run succeeded, failed or was cancelled; report every change.

    Args:
        api: Kubeflow Pipelines.
        run: the run.
        deployment: where it runs.
        on_state: called with the run whenever it has changed.
        look: adds what Kubeflow Pipelines does not know, its steps.
        patience: how it is waited for.

    Raises:
        ServiceError: the API was away for too long, or the wait took longer than allowed.
    """
    pause, started, answered = threading.Event(), time.monotonic(), time.monotonic()
    before, wait = None, patience.poll_seconds
    while True:
        try:
            run = look(described(api.run(run.kfp_run_id), deployment))
            answered, wait = time.monotonic(), patience.poll_seconds
        except ServiceError:
            if time.monotonic() - answered > patience.outage_seconds:
                raise
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
        if run != before:
            on_state(run)
            before = run
        if run.is_over:
            return run
        if patience.timeout_seconds and time.monotonic() - started > patience.timeout_seconds:
            raise ServiceError(
                f"Run {run.run_id} is still {run.state} after {patience.timeout_seconds:.0f} s.",
                remedy=f"It continues; boothline status {run.run_id} --deployment FILE shows it.",
            )
        pause.wait(wait)


def error_of(run: ClusterRun) -> BoothlineError | None:
    """Return the error that a run's end stands for; None for success."""
    again = f"boothline resume {run.run_id} --deployment FILE continues from here."
    if run.state in (SUCCEEDED, "SKIPPED"):
        return None
    if run.state == CANCELED:
        return InterruptedRunError(f"Run {run.run_id} was cancelled.", remedy=again)
    return BoothlineError(
        f"Run {run.run_id} failed{_where(run)}",
        remedy=f"See boothline logs {run.run_id} --deployment FILE. {again}",
    )


def _where(run: ClusterRun) -> str:
    """Return at which step a run failed and why, as far as anything says so."""
    ended = ("failed", "interrupted")
    steps = [(step.name, step.note) for step in run.steps if step.status in ended]
    tasks = [(task.name, task.error) for task in run.tasks if task.state == FAILED and task.error]
    for name, reason in [*steps, *tasks]:
        if reason:
            return f" at {name}: {reason}"
    if steps:
        return f" at {steps[0][0]}."
    return f": {run.error}" if run.error else "."


def scheduled_run_id(name: str) -> str:
    """Return the run id that a recurring run is registered with; each run makes its own of it.

    Kubeflow Pipelines does not fill macros such as `[[ScheduledTime]]` into the parameters of its
    version 2.
    """
    return f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-') or 'scheduled'}-{JOB}"


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When a pipeline is run again and again.

    Attributes:
        name: name of the recurring run; registering it again replaces it.
        cron: six fields, seconds first, in the server's time zone.
        pipeline: name of the pipeline.
    """

    name: str
    cron: str
    pipeline: str = "dreambooth"


def schedule_request(
    api: PipelinesApi,
    deployment: Deployment,
    config: RunConfig,
    *,
    schedule: Schedule,
    experiment_id: str,
) -> "V2beta1RecurringRun":
    """Return what would be sent to register a recurring run.

    Raises:
        ConfigError: the cron expression has not six fields, or the configuration does not fit.
    """
    if len(schedule.cron.split()) != 6:
        raise ConfigError(
            f"The cron expression {schedule.cron!r} has {len(schedule.cron.split())} fields.",
            remedy='Six are needed, seconds first: "0 0 2 * * *" is every night at two.',
        )
    check_reachable(config)
    config = _with_trials(config, schedule.pipeline)
    run_id = scheduled_run_id(schedule.name)
    return api.recurring_body(
        schedule.name,
        cron=schedule.cron,
        pipeline=compile_for(deployment, pipeline=schedule.pipeline, config=config),
        arguments=arguments(run_id, config, pipeline=schedule.pipeline),
        experiment_id=experiment_id,
    )


def register(
    api: PipelinesApi,
    deployment: Deployment,
    config: RunConfig,
    *,
    schedule: Schedule,
    inline: bool = False,
) -> str:
    """Register a recurring run in place of those of its name, and return its id.

    Runs that the former ones have started continue; see `unregister`.
    """
    body = schedule_request(api, deployment, config, schedule=schedule, experiment_id="")
    former = api.recurring(schedule.name)
    body.experiment_id = api.experiment_id()
    if not inline:
        start_version(api, body, pipeline=schedule.pipeline)
    made = api.create_recurring(body)
    _retire(api, former)
    return made


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What became of the recurring runs of a name.

    Attributes:
        removed: how many were deleted.
        disabled: how many start no more runs and stay until their last run has ended.
        unfinished: our ids of the runs that continue.
    """

    removed: int
    disabled: int
    unfinished: tuple[str, ...] = ()


def unregister(api: PipelinesApi, name: str) -> Removal:
    """Stop the recurring runs of a name, and delete those whose runs have all ended.

    A recurring run owns its runs in Kubernetes: deleting it kills those that have not ended. Such a
    one is disabled only; the next call for that name deletes it.
    """
    return _retire(api, api.recurring(name))


def _retire(api: PipelinesApi, former: "Sequence[V2beta1RecurringRun]") -> Removal:
    """Stop recurring runs, and delete those that own no unfinished run."""
    unfinished: list[str] = []
    disabled = 0
    for item in former:
        identity = str(item.recurring_run_id)
        api.stop_recurring(identity)  # first, so that none starts between look and deletion
        active = [run_id_of(run) for run in api.unfinished(identity)]
        unfinished += active
        disabled += bool(active)
        if not active:
            api.delete_recurring(identity)
    return Removal(removed=len(former) - disabled, disabled=disabled, unfinished=tuple(unfinished))
