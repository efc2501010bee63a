"""How a run on a cluster stands, step by step.

Kubeflow Pipelines shows a node for each driver, group and loop of a run, in states that lag. What
a step did is in Boothline's own records in the store; why one does not start is in its pods.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import cast

from boothline.catalogue import steps_of, title_of
from boothline.errors import BoothlineError
from boothline.launch.cluster.client import FAILED, SUCCEEDED
from boothline.launch.cluster.deployment import Deployment
from boothline.launch.cluster.pods import RunPods, StepPod, waiting_for
from boothline.launch.cluster.states import ClusterRun, ClusterStep, ClusterTask
from boothline.launch.local.events import RunProgress, ShardProgress, StepState
from boothline.runs import StepRecord
from boothline.settings import Settings
from boothline.store import Store
from boothline.trials import steps_with_trials

_STATES = {"PENDING": "waiting", "RUNNING": "running", SUCCEEDED: "done", FAILED: "failed"}


class Sources:
    """Where the state of a run's steps is read: the store and the pods, as far as they are known.

    Args:
        store: opens the store; None: it is not known here.
        pods: the pods; None: no cluster is known here.
        notes: what is not known, and why.
    """

    def __init__(
        self,
        *,
        store: Callable[[], Store] | None = None,
        pods: RunPods | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self._open = store
        self._store: Store | None = None
        self.pods = pods
        self.notes = tuple(notes)

    @property
    def store(self) -> Store | None:
        """The store, opened at the first look that it answers; None: it is not known here.

        Raises:
            ServiceError: it does not answer now.
        """
        if self._store is None and self._open is not None:
            self._store = self._open()
        return self._store

    @classmethod
    def connect(cls, deployment: Deployment, settings: Settings) -> "Sources":
        """Return what can be read from here; what cannot is named in the notes."""
        store: Callable[[], Store] | None = None
        pods, notes = None, []
        if settings.s3_endpoint:
            store = partial(Store.connect, settings)
        else:
            notes.append("BOOTHLINE_S3_ENDPOINT is not set: steps as Kubeflow shows them.")
        try:
            pods = RunPods.connect(deployment)
        except BoothlineError as error:
            notes.append(f"No pods are shown. {error}")
        return cls(store=store, pods=pods, notes=notes)

    def standing(self, run: ClusterRun) -> ClusterRun:
        """Return a run with its steps; a service that is away is named in its notes."""
        notes, error = list(self.notes), run.error
        records: list[StepRecord] = []
        pods: list[StepPod] = []
        try:
            store = self.store
            records = steps_with_trials(store, run.run_id) if store else []
        except BoothlineError as away:
            notes.append(f"The store does not answer. {away}")
        try:
            if self.pods:
                pods = self.pods.of_run(run.kfp_run_id, run_id=run.run_id)
                if run.state == FAILED:
                    error = self.pods.driver_failure(run.kfp_run_id) or error
        except BoothlineError as away:
            notes.append(f"No pods are shown. {away}")
        steps = list(_steps(run, records, pods))
        return run.model_copy(update={"steps": steps, "notes": notes, "error": error})


def _steps(
    run: ClusterRun, records: Sequence[StepRecord], pods: Sequence[StepPod]
) -> Iterator[ClusterStep]:
    """Yield the steps of a run in their order, shards one by one where they are recorded."""
    by_title = {task.name: task for task in run.tasks}
    for step in steps_of(run.pipeline):
        own = sorted((r for r in records if r.step == step.name), key=lambda r: r.shard or 0)
        of_step = [pod for pod in pods if pod.step == step.name]
        for record in own:
            yield _recorded(run, record, of_step)
        waiting = [pod for pod in of_step if pod.phase == "Pending"]
        told = any(record.status == "running" and record.shard is None for record in own)
        if of_step and (not own or (waiting and not told)):
            yield _of_pod((waiting or of_step)[-1])
        elif not own and ((task := by_title.get(title_of(step.name))) or not step.optional):
            yield _of_task(step.name, task)


def _recorded(run: ClusterRun, record: StepRecord, pods: Sequence[StepPod]) -> ClusterStep:
    """Return a step as its record says; one whose pods have all ended does not run any more."""
    step = ClusterStep(
        name=record.label,
        status="reused" if record.reused else record.status,
        seconds=round(record.seconds, 3),
        # Of several shards, which pod was whose is not known.
        pod=pods[-1].name if pods and (record.shard is None or len(pods) == 1) else "",
        manifest=record.manifest,
    )
    if record.failure:
        note = f"{record.failure.message} {record.failure.remedy}".strip()
        return step.model_copy(update={"note": note})
    if record.status != "running":
        return step
    running = [pod for pod in pods if pod.is_active]
    waiting = [pod for pod in running if pod.phase == "Pending"]
    if waiting and record.shard is None:  # the nodes of a training
        return _of_pod(waiting[-1])
    if not run.is_over and (running or not pods):
        return step.model_copy(update=_progress(running[0]) if running else {})
    reason = pods[-1].reason if pods else ""
    return step.model_copy(update={"status": "interrupted", "note": reason})


def _of_pod(pod: StepPod) -> ClusterStep:
    """Return a step as its pod shows it."""
    statuses = {"Pending": "waiting", "Succeeded": "done", "Failed": "failed"}
    step = ClusterStep(name=pod.step, status=statuses.get(pod.phase, "running"), pod=pod.name)
    if step.status == "running" and not pod.reason:
        return step.model_copy(update=_progress(pod))
    note = waiting_for(pod) if step.status == "waiting" else pod.reason
    return step.model_copy(update={"note": note})


def _progress(pod: StepPod) -> dict[str, object]:
    """Return how far a pod is, as the fields of a step."""
    return {"pod": pod.name, **vars(pod.progress)}


def _of_task(name: str, task: ClusterTask | None) -> ClusterStep:
    """Return a step of which there is neither record nor pod, as Kubeflow shows it."""
    if task is None:
        return ClusterStep(name=name, status="waiting")
    return ClusterStep(name=name, status=_STATES.get(task.state, "waiting"), note=task.error)


def as_progress(run: ClusterRun, *, now: float) -> RunProgress:
    """Return a run's steps as the displays of local runs take them.

    Args:
        run: the run, with its steps.
        now: seconds since the epoch.
    """
    shown = {step.name.partition("-")[0] for step in run.steps}
    about = [step for step in steps_of(run.pipeline) if not step.optional or step.name in shown]
    progress = RunProgress([step.name for step in about])
    for number, step in enumerate(run.steps):
        name = step.name if step.name in progress.steps else step.name.rpartition("-")[0]
        state = {"reused": "done", "interrupted": "failed"}.get(step.status, step.status)
        shard = ShardProgress(
            state=cast("StepState", state),
            started_at=now - step.seconds if step.seconds else 0.0,
            ended_at=now if state in ("done", "failed") else 0.0,
            done=step.done,
            total=step.total,
            unit=step.unit,
            note=step.note,
            remark="" if state == "running" else step.note,
            reused=step.status == "reused",
            manifest=step.manifest,
            last_time=now,
        )
        progress.steps[name].shards[number] = shard
    return progress
