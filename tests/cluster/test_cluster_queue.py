"""Kueue: what bears a queue's label is held while the quota is taken, and runs when it is free."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from kubernetes_here import Cluster, until

pytestmark = pytest.mark.cluster

CRD = "clusterqueues.kueue.x-k8s.io"
LABEL = "kueue.x-k8s.io/queue-name"
QUOTA = {"cpu": "500m", "memory": "16Gi", "ephemeral-storage": "200Gi"}
HELD_SECONDS = 15


@dataclass(frozen=True)
class Queue:
    """A queue of the cluster's namespace, and the pod that takes its whole quota."""

    cluster: Cluster

    @property
    def name(self) -> str:
        return self.cluster.release.name

    @property
    def holder(self) -> str:
        return f"{self.name}-holder"

    def take(self) -> None:
        """Let a pod take all of the quota."""
        requests = {"cpu": QUOTA["cpu"], "memory": "64Mi"}
        labels = {LABEL: self.name}
        self.cluster.start_pod(self.holder, "sleep", "3600", labels=labels, requests=requests)
        until(
            lambda: self.cluster.phase(self.holder) == "Running",
            seconds=120, what="the pod that takes the quota",
        )  # fmt: skip

    def free(self) -> None:
        """Free the quota."""
        self.cluster.namespace.kubectl(
            "delete", "pod", self.holder, "--ignore-not-found", "--grace-period=0"
        )


@pytest.fixture(scope="module")
def queue(cluster: Cluster) -> Iterator[Queue]:
    """Make a queue, or skip."""
    namespace = cluster.namespace
    if not namespace.kubectl("get", "crd", CRD, "--output", "name", check=False):
        pytest.skip("the cluster has no Kueue")
    stored = namespace.read("crd", CRD)["status"]["storedVersions"][-1]
    name, version = cluster.release.name, f"kueue.x-k8s.io/{stored}"
    quotas = [{"name": item, "nominalQuota": much} for item, much in QUOTA.items()]
    group = {"coveredResources": list(QUOTA), "flavors": [{"name": name, "resources": quotas}]}
    specs = {
        "ResourceFlavor": {},
        "ClusterQueue": {"namespaceSelector": {}, "resourceGroups": [group]},
        "LocalQueue": {"clusterQueue": name},
    }
    made = [
        {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}
        for kind, spec in specs.items()
    ]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": made})
    namespace.kubectl("apply", "-f", "-", text=text)
    found = Queue(cluster)
    yield found
    found.free()
    namespace.kubectl("delete", "--wait=false", "-f", "-", text=text)


def test_steps_of_a_run_wait_for_their_queue(
    cluster: Cluster, queue: Queue, pictures: str, figure: Any
) -> None:
    """The steps' queue: the first is held while the quota is taken, the run ends when it is free"""
    deployment = cluster.deployment("queued", trainer=None, queue=queue.name)
    queue.take()
    started = time.monotonic()
    words = ("--deployment", deployment, "--run-id", "queued-1")
    process = cluster.start("submit", cluster.configuration("queued", pictures), *words, "--watch")

    def held() -> dict[str, Any]:
        steps = cluster.state("queued-1", deployment).get("steps", [])
        return next((s for s in steps if s["status"] == "waiting" and s["pod"]), {})

    step = until(held, seconds=300, what="a step that is held", pause=3)
    threading.Event().wait(HELD_SECONDS)
    step = held()
    assert "gate" in step["note"], step
    queue.free()
    outcome = cluster.ended(process, started)
    assert outcome.code == 0, outcome.said
    figure(f'{step["name"]} held, "{step["note"][:80]}"; succeeded in {outcome.seconds:.0f} s')


def test_training_of_two_nodes_waits_for_its_queue(
    cluster: Cluster, queue: Queue, pictures: str, figure: Any
) -> None:
    """The trainer's queue: its TrainJob is suspended while the quota is taken, then it trains"""
    if not cluster.has_trainer:
        pytest.skip("the cluster has no Kubeflow Trainer")
    trainer = cluster.release.deployment()["trainer"] | {"queue": queue.name}
    deployment = cluster.deployment("queued-nodes", trainer=trainer)
    queue.take()
    started = time.monotonic()
    words = ("--deployment", deployment, "--run-id", "queued-2")
    config = cluster.configuration("queued", pictures, training__seed=6)  # so that it trains
    process = cluster.start("submit", config, *words, "--watch")

    def jobs() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = cluster.namespace.read("trainjobs")["items"]
        return found

    until(jobs, seconds=600, what="a TrainJob", pause=3)
    threading.Event().wait(HELD_SECONDS)
    (job,) = jobs()
    assert job["spec"]["suspend"]
    assert cluster.namespace.pods(f"jobset.sigs.k8s.io/jobset-name={job['metadata']['name']}") == []
    steps = cluster.state("queued-2", deployment)["steps"]
    (step,) = (step for step in steps if step["name"] == "train")
    queue.free()
    outcome = cluster.ended(process, started)
    assert outcome.code == 0, outcome.said
    said = f'train {step["status"]}, "{step["note"][:80]}"'
    figure(f"no pods for {HELD_SECONDS} s, {said}; succeeded in {outcome.seconds:.0f} s")
