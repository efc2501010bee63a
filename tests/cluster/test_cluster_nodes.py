"""Two nodes that Kubeflow Trainer runs: cancelled in every state, and losing their pods."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from kubernetes_here import Cluster, Outcome, until

from boothline.settings import Settings
from boothline.store import ManifestRef, Store, layout

pytestmark = pytest.mark.cluster

JOBSET = "jobset.sigs.k8s.io/jobset-name"
STAY_SECONDS = 300


@pytest.fixture(scope="module")
def nodes(cluster: Cluster) -> Path:
    """The deployment whose trainings are TrainJobs of two nodes."""
    if not cluster.has_trainer:
        pytest.skip("the cluster has no Kubeflow Trainer")
    return cluster.deployment("nodes")


def ranks(cluster: Cluster, *, phase: str = "") -> list[str]:
    """Return the names of the pods of TrainJobs of this release that have not ended."""
    found = []
    for pod in cluster.namespace.pods(JOBSET):
        labels = pod["metadata"]["labels"]
        if labels.get("app.kubernetes.io/instance") != cluster.release.name:
            continue
        if pod["status"]["phase"] == phase or (
            not phase and pod["status"]["phase"] in ("Pending", "Running")
        ):
            found.append(pod["metadata"]["name"])
    return found


def train_jobs(cluster: Cluster) -> list[str]:
    """Return the names of the TrainJobs of this release."""
    items = cluster.namespace.read("trainjobs")["items"]
    return [
        item["metadata"]["name"]
        for item in items
        if item["spec"]["runtimeRef"]["name"].startswith(cluster.release.name)
    ]


def step_of(cluster: Cluster, run_id: str, deployment: Path) -> dict[str, Any]:
    """Return the train step of a run as `boothline status` says it."""
    steps = cluster.state(run_id, deployment).get("steps", [])
    return next((step for step in steps if step["name"].startswith("train")), {})


def cancelled(cluster: Cluster, run_id: str, deployment: Path) -> Outcome:
    """Cancel a run; its pods are gone at once, and stay gone."""
    outcome = cluster.boothline("cancel", run_id, "--deployment", deployment)
    assert outcome.code == 0, outcome.said
    assert outcome.printed["pods"] == []
    assert outcome.printed["report"]
    deadline = time.monotonic() + STAY_SECONDS
    while time.monotonic() < deadline:
        assert train_jobs(cluster) == []
        assert ranks(cluster) == []
        threading.Event().wait(10)
    return outcome


@pytest.mark.proves("F65/cancel")
def test_training_cancelled_while_it_waits_for_a_node_is_gone_and_stays_gone(
    cluster: Cluster, nodes: Path, pictures: str, figure: Any
) -> None:
    """Cancelled while its pods are Pending: gone within 60 s, still gone after 5 minutes"""
    config = cluster.configuration("pending", pictures, training__seed=11)
    cluster.release.upgrade(cluster.folder, "trainer.nodeSelector.no-such-node=there-is-none")
    try:
        cluster.boothline("submit", config, "--deployment", nodes, "--run-id", "pending-1")
        until(lambda: len(ranks(cluster, phase="Pending")) == 2, seconds=600, what="pending ranks")
        step = step_of(cluster, "pending-1", nodes)
        assert step["status"] == "waiting", step
        assert "node" in step["note"]
        outcome = cancelled(cluster, "pending-1", nodes)
    finally:
        cluster.release.upgrade(cluster.folder)
    figure(f"{outcome.printed['seconds']:.0f} s; said before: {step['note'][:80]}")
    assert outcome.printed["seconds"] <= 60


@pytest.mark.proves("F65/cancel")
def test_training_cancelled_while_it_runs_is_gone_and_resumes_from_its_state(
    cluster: Cluster, nodes: Path, pictures: str, figure: Any
) -> None:
    """Cancelled while it trains: gone within 60 s; `resume` continues from the saved state"""
    config = cluster.configuration(
        "stopped", pictures, training__num_steps=120, training__seed=12, checkpoints__every_steps=10
    )
    before = set(states(cluster))
    cluster.boothline("submit", config, "--deployment", nodes, "--run-id", "stopped-1")
    until(lambda: set(states(cluster)) - before, seconds=900, what="a saved state", pause=3)
    outcome = cancelled(cluster, "stopped-1", nodes)
    resumed = cluster.boothline("resume", "stopped-1", "--deployment", nodes)
    assert resumed.code == 0, resumed.said
    log = cluster.boothline("logs", "stopped-1", "--step", "train", "--deployment", nodes).printed
    text = "\n".join(log["logs"].values())
    assert "after step" in text, text[-2000:]
    figure(f"{outcome.printed['seconds']:.0f} s, resumed run {resumed.seconds:.0f} s")
    assert outcome.printed["seconds"] <= 60


def states(cluster: Cluster) -> list[str]:
    """Return the keys of saved states."""
    listed = cluster.store().list_objects("boothline", prefix="training/", recursive=True)
    return [item.object_name or "" for item in listed]


def forget_training(cluster: Cluster, outcome: Outcome) -> dict[str, str]:
    """Take a run's training and its states out of the store; return the weights' sha256 by path."""
    (step,) = (step for step in outcome.printed["steps"] if step["name"] == "train")
    access, secret = cluster.release.keys("collector")
    settings = Settings(
        s3_endpoint=cluster.forwards["store"].url, s3_access_key=access, s3_secret_key=secret
    )
    ref, store = ManifestRef.parse(step["manifest"]), Store.connect(settings)
    (state,) = (made for made in store.read(ref).inputs if made.startswith(layout.TRAINING))
    entries = store.read(ManifestRef.parse(state)).files
    client = cluster.store("collector")
    for prefix in (ref.path, layout.TRAINING, layout.JOBS):
        for item in client.list_objects("boothline", prefix=prefix, recursive=True):
            client.remove_object("boothline", item.object_name or "")
    return {e.path: e.sha256 for e in entries if e.path.endswith(".safetensors")}


def lose_a_rank(cluster: Cluster) -> None:
    """Delete the pod of a rank after a further state; return when both pods are new."""
    before = set(states(cluster))
    until(lambda: set(states(cluster)) - before, seconds=900, what="another state", pause=2)
    gone = ranks(cluster, phase="Running")
    cluster.namespace.kubectl("delete", "pod", gone[-1], "--wait=false")
    until(
        lambda: len(set(ranks(cluster, phase="Running")) - set(gone)) == 2,
        seconds=300, what="two new pods", pause=2,
    )  # fmt: skip


@pytest.mark.proves("F38/trainer", "F65/nodes")
def test_ranks_deleted_twice_come_back_and_the_weights_are_the_same_bits(
    cluster: Cluster, nodes: Path, pictures: str, figure: Any
) -> None:
    """A rank's pod is deleted twice: SUCCEEDED without a person, weights bit-identical"""
    config = cluster.configuration(
        "lost", pictures, training__num_steps=120, training__seed=13, checkpoints__every_steps=10
    )
    words = ("submit", config, "--deployment", nodes, "--watch")
    whole = cluster.boothline(*words, "--run-id", "lost-0")
    assert whole.code == 0, whole.said
    before = forget_training(cluster, whole)
    assert before
    started, process = time.monotonic(), cluster.start(*words, "--run-id", "lost-1")
    for _ in range(2):
        lose_a_rank(cluster)
    outcome = cluster.ended(process, started)
    assert outcome.code == 0, outcome.said
    after = forget_training(cluster, outcome)
    figure(f"{outcome.seconds:.0f} s beside {whole.seconds:.0f} s undisturbed; files differing: "
           f"{len(set(before.items()) ^ set(after.items()))}")  # fmt: skip
    assert before == after
