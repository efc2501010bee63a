"""The pods of a run from the Kubernetes API: what each does, why it waits, what it says."""

import re
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import TYPE_CHECKING

from boothline.errors import ConfigError, ServiceError
from boothline.launch.cluster.deployment import Deployment
from boothline.launch.cluster.placing import KFP_RUN_LABEL, STEP_LABEL
from boothline.logs import as_text
from boothline.trainjob.cluster import TIMEOUT_SECONDS, api_client, translated
from boothline.trainjob.manifest import GROUP, PLURAL, RUN_ANNOTATION, VERSION

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, V1Pod, V1PodStatus

STEP_CONTAINER = "main"
_LAST_LINES = 30
_LONGEST_WORDS = 300
_STARTING = frozenset({"PodInitializing", "ContainerCreating"})
_PROGRESS = re.compile(
    r"boothline\.progress \S+ progress (?P<done>\d+)/(?P<total>\d+) (?P<unit>\S*) ?(?P<note>.*)"
)
_LOG_PREFIX = re.compile(r"^[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ \S+\] ")
_OF_KUBEFLOW = re.compile(rf"{_LOG_PREFIX.pattern}|\[KFP Executor |time=\S+ level=")
_PREEMPTION = re.compile(r"\.? (?=no new claims to deallocate|preemption: )")
_OWN_LINE = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ boothline")


@dataclass(frozen=True, kw_only=True)
class Reported:
    """The last progress that a step wrote into its log; see `boothline.progress`."""

    done: int = 0
    total: int = 0
    unit: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class StepPod:
    """A pod of a step, or one that a step started on another node.

    Attributes:
        step: the step.
        name: the pod's name.
        phase: Kubernetes' own word: Pending, Running, Succeeded, Failed.
        reason: why it does not run, or why it failed; empty where nothing is wrong.
        created_at: seconds since the epoch.
        progress: the last progress that it reported.
    """

    step: str
    name: str
    phase: str
    reason: str
    created_at: float
    progress: Reported = Reported()

    @property
    def is_active(self) -> bool:
        """Whether it has not ended."""
        return self.phase in ("Pending", "Running", "Unknown")


class RunPods:
    """The pods of one run.

    Args:
        client: a `kubernetes.client.ApiClient`.
        namespace: where the pods are.
    """

    def __init__(self, client: "ApiClient", *, namespace: str) -> None:
        from kubernetes.client import CoreV1Api, CustomObjectsApi

        self._client = client
        self._core = CoreV1Api(client)
        self._jobs = CustomObjectsApi(client)
        self._namespace = namespace

    @classmethod
    def connect(cls, deployment: Deployment) -> "RunPods":
        """Return the pods of a deployment's runs.

        Raises:
            ConfigError: no cluster is known here, or the deployment names no namespace.
        """
        if not deployment.kfp.namespace:
            raise ConfigError(
                "The deployment names no namespace of the runs.", remedy="Set kfp.namespace."
            )
        return cls(api_client(), namespace=deployment.kfp.namespace)

    def of_run(
        self, kfp_run_id: str, *, run_id: str, jobs: Collection[str] = (), progress: bool = True
    ) -> list[StepPod]:
        """Return the pods of a run's steps and of the nodes that train for it, oldest first.

        Args:
            kfp_run_id: the API's id of the run.
            run_id: our id of it.
            jobs: TrainJobs that it had, and that may be deleted.
            progress: whether to read from the log how far a running step is.

        Raises:
            ServiceError: the Kubernetes API is away or refuses.
        """
        found = [(pod.metadata.labels[STEP_LABEL], pod) for pod in self._steps(kfp_run_id)]
        for job in {*self.train_jobs(run_id), *jobs}:
            selector = f"jobset.sigs.k8s.io/jobset-name={job}"
            found += [("train", pod) for pod in self._listed(selector)]
        found.sort(key=lambda item: item[1].metadata.creation_timestamp)
        return [self._described(step, pod, progress=progress) for step, pod in found]

    def train_jobs(self, run_id: str) -> list[str]:
        """Return the names of the TrainJobs that a run started; none without Kubeflow Trainer.

        Raises:
            ServiceError: the Kubernetes API is away or refuses.
        """
        answer = None
        with translated(self._client, "list the TrainJobs", quiet=404):
            answer = self._jobs.list_namespaced_custom_object(
                group=GROUP,
                version=VERSION,
                plural=PLURAL,
                namespace=self._namespace,
                _request_timeout=TIMEOUT_SECONDS,
            )
        return [
            str(job["metadata"]["name"])
            for job in (answer or {}).get("items", [])
            if job["metadata"].get("annotations", {}).get(RUN_ANNOTATION) == run_id
        ]

    def logs(self, kfp_run_id: str, *, step: str | None, whole: bool) -> dict[str, str]:
        """Return the logs of the steps' pods that still exist, by `<step>/<pod>`, oldest first.

        Args:
            kfp_run_id: the API's id of the run.
            step: one step; None: all.
            whole: also what Kubeflow's launcher writes before and after the step's own lines.

        Raises:
            ServiceError: the Kubernetes API is away or refuses.
        """
        pods = self._steps(kfp_run_id, step=step)
        pods.sort(key=lambda pod: pod.metadata.creation_timestamp)
        texts = {
            f"{pod.metadata.labels[STEP_LABEL]}/{pod.metadata.name}": self._log(pod.metadata.name)
            for pod in pods
            if pod.status.phase != "Pending"
        }
        return texts if whole else {name: own_lines(text) for name, text in texts.items()}

    def driver_failure(self, kfp_run_id: str) -> str:
        """Return what the last failed pod of Kubeflow's own said last; empty: none failed.

        A driver prepares each step of a run; the API gives no reason where one fails.

        Raises:
            ServiceError: the Kubernetes API is away or refuses.
        """
        pods = self._listed(f"{KFP_RUN_LABEL}={kfp_run_id},!{STEP_LABEL}")
        failed = [pod for pod in pods if pod.status.phase == "Failed"]
        failed.sort(key=lambda pod: pod.metadata.creation_timestamp)
        if not failed:
            return ""
        name = str(failed[-1].metadata.name)
        lines = [line for line in self._log(name, last=_LAST_LINES).splitlines() if line.strip()]
        # Argo adds that the process has ended.
        of_driver = [line for line in lines if _LOG_PREFIX.match(line)] or lines
        said = _LOG_PREFIX.sub("", of_driver[-1]) if lines else reason_of(failed[-1].status)
        return f"{name}: {said}"

    def _steps(self, kfp_run_id: str, *, step: str | None = None) -> "list[V1Pod]":
        own = f"{STEP_LABEL}={step}" if step else STEP_LABEL
        return self._listed(f"{KFP_RUN_LABEL}={kfp_run_id},{own}")

    def _listed(self, selector: str) -> "list[V1Pod]":
        with self._asked("list the pods"):
            return list(
                self._core.list_namespaced_pod(
                    self._namespace, label_selector=selector, _request_timeout=TIMEOUT_SECONDS
                ).items
            )

    def _log(self, pod: str, *, last: int | None = None) -> str:
        tail = {} if last is None else {"tail_lines": last}
        with self._asked("read the logs"):
            return str(
                self._core.read_namespaced_pod_log(
                    pod,
                    self._namespace,
                    container=STEP_CONTAINER,
                    _request_timeout=TIMEOUT_SECONDS,
                    **tail,
                )
            )

    def _described(self, step: str, pod: "V1Pod", *, progress: bool) -> StepPod:
        is_step = STEP_LABEL in (pod.metadata.labels or {})
        created: datetime = pod.metadata.creation_timestamp
        name, phase, reason = str(pod.metadata.name), str(pod.status.phase), reason_of(pod.status)
        reported = Reported()
        if progress and is_step and phase == "Running" and not reason:
            reported = _progress(self._log(name, last=_LAST_LINES))
        if progress and is_step and phase == "Failed":
            reason = ": ".join(filter(None, (reason, self._last_words(name))))
        return StepPod(
            step=step,
            name=name,
            phase=phase,
            reason=reason,
            created_at=created.timestamp(),
            progress=reported,
        )

    def _last_words(self, pod: str) -> str:
        """Return the last line that a step wrote itself; empty: there is none, or no log any more.

        A step that could not even record its failure, an older image given newer settings, say,
        says why there alone.
        """
        with suppress(ServiceError):
            own = own_lines(self._log(pod)).splitlines()
            said = [line for line in own if line.strip() and not _OF_KUBEFLOW.match(line)]
            return said[-1][:_LONGEST_WORDS] if said else ""
        return ""

    @contextmanager
    def _asked(self, what: str) -> Iterator[None]:
        remedy = "Your account needs pods and pods/log in the namespace."
        with translated(self._client, what, remedy=remedy):
            yield


def reason_of(status: "V1PodStatus") -> str:
    """Return why a pod does not run, or why it failed, in its cluster's words; empty: it is well.

    Args:
        status: a `kubernetes.client.V1PodStatus`.
    """
    for condition in status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            said = str(condition.message or condition.reason or "not scheduled")
            return _PREEMPTION.split(said)[0]
    if status.phase == "Failed" and status.reason:
        return f"{status.reason}: {status.message or ''}".removesuffix(": ")
    for container in [*(status.init_container_statuses or []), *(status.container_statuses or [])]:
        waiting, ended = container.state.waiting, container.state.terminated
        if waiting and waiting.reason and waiting.reason not in _STARTING:
            return f"{waiting.reason}: {waiting.message or ''}".removesuffix(": ")
        if ended and ended.exit_code and container.name == STEP_CONTAINER:
            return f"{ended.reason or 'Error'} (exit code {ended.exit_code})"
    return ""


def own_lines(log: str) -> str:
    """Return a step's own lines of a pod's log as text: from the first that Boothline wrote.

    Kubeflow's launcher and executor write the step's input before them, and its outputs behind:
    about a hundred lines. Where the step never got to write a line, the whole log is all there is.
    """
    lines = as_text(log).splitlines(keepends=True)
    first = next((number for number, line in enumerate(lines) if _OWN_LINE.match(line)), None)
    if first is None:
        return log
    return "".join(takewhile(lambda line: not _OF_KUBEFLOW.match(line), lines[first:]))


def waiting_for(pod: StepPod, *, now: float | None = None) -> str:
    """Return for how long a pod has waited and why, e.g. `2 min: 0/1 nodes are available`."""
    seconds = (time.time() if now is None else now) - pod.created_at
    age = f"{seconds / 60:.0f} min" if seconds >= 60 else f"{max(seconds, 0):.0f} s"
    return f"{age}: {pod.reason}" if pod.reason else age


def _progress(log: str) -> Reported:
    """Return the last progress in a log."""
    found = [match for line in as_text(log).splitlines() if (match := _PROGRESS.search(line))]
    if not found:
        return Reported()
    last = found[-1]
    return Reported(
        done=int(last["done"]), total=int(last["total"]), unit=last["unit"], note=last["note"]
    )
