"""The pods of a namespace over HTTP, as the Kubernetes API shows them, and its TrainJobs."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from kubernetes_fake import JOBS

_KINDS = {"secrets", "configmaps", "serviceaccounts", "trainingruntimes"}
NO_GPU = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu"
# As the scheduler of Kubernetes 1.36 was seen to say it.
_UNSCHEDULED = (
    f"{NO_GPU}. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is "
    "not helpful for scheduling."
)


def pod(
    name: str, *, step: str = "train", phase: str = "Running", created: int = 0, **status: Any
) -> dict[str, Any]:
    """Return a pod of a step."""
    return {
        "metadata": {
            "name": name,
            "creationTimestamp": f"2026-01-01T00:00:{created:02d}Z",
            "labels": {"boothline.dev/step": step},
        },
        "status": {"phase": phase, **status},
    }


def unscheduled(name: str) -> dict[str, Any]:
    """Return a pod for which there is no node."""
    condition = {"type": "PodScheduled", "status": "False", "message": _UNSCHEDULED}
    return pod(name, phase="Pending", conditions=[{**condition, "reason": "Unschedulable"}])


def container(name: str = "main", **state: dict[str, Any]) -> dict[str, Any]:
    """Return the status of a container; `state` is waiting, running or terminated."""
    return {
        "name": name,
        "state": state,
        "ready": False,
        "restartCount": 0,
        "image": "",
        "imageID": "",
    }


@dataclass
class FakePods:
    """What the server knows.

    Attributes:
        pods: the pods of a run's steps.
        nodes: the pods of its TrainJob.
        drivers: Kubeflow's own pods of the run.
        train_jobs: TrainJobs, by name; without any, Kubeflow Trainer is not installed.
        log: lines of every log.
        grace: how often the pods of a deleted TrainJob are still listed.
        refusal: status of every answer; 0: none is refused.
        absent: names of Secrets, ConfigMaps, accounts and runtimes that are not there.
    """

    pods: list[dict[str, Any]] = field(default_factory=list)
    nodes: list[dict[str, Any]] = field(default_factory=list)
    drivers: list[dict[str, Any]] = field(default_factory=list)
    train_jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    grace: int = 2
    refusal: int = 0
    absent: set[str] = field(default_factory=set)
    url: str = ""
    selectors: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)

    def answer(self, method: str, target: str, body: object) -> tuple[int, object]:
        """Return status and JSON, or lines of a log, of a request."""
        url = urlsplit(target)
        if self.refusal:
            return self.refusal, {"message": "refused"}
        if url.path == JOBS:
            items = list(self.train_jobs.values())
            return (200, {"items": items}) if items else (404, {"message": "no such path"})
        if url.path.startswith(f"{JOBS}/"):
            name = url.path.rsplit("/", 1)[-1]
            self.deleted.append(name)
            return 200, self.train_jobs.pop(name)
        if (kind := url.path.rsplit("/", 2)[-2]) in _KINDS:
            name = url.path.rsplit("/", 1)[-1]
            self.read.append(f"{kind}/{name}")
            return (404 if name in self.absent else 200), {"metadata": {"name": name}}
        options = parse_qs(url.query)
        if url.path.endswith("/log"):
            last = int(options.get("tailLines", ["0"])[0])
            return 200, self.log[-last:]
        (selector,) = options["labelSelector"]
        self.selectors.append(selector)
        if "!" in selector:
            return 200, {"items": self.drivers}
        return 200, {"items": self._nodes() if "jobset-name" in selector else self.pods}

    def _nodes(self) -> list[dict[str, Any]]:
        """Return the pods of the TrainJob, which stay for a while once it is deleted."""
        if self.deleted:
            self.grace -= 1
        return self.nodes if self.grace >= 0 else []

    def kubeconfig(self) -> str:
        """Return the text of a kubeconfig that names this server."""
        value = {
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {}}],
        }
        return yaml.safe_dump(value)
