"""Two teams of a multi-user Kubeflow: who may start what, and what the other cannot see."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_here import ROOT, Cluster, Forward, until

pytestmark = pytest.mark.cluster

PICTURES = sorted((ROOT / "examples" / "subjects" / "teddy-bear").glob("*.jpg"))
AUDIENCE = "pipelines.kubeflow.org"
EVERY_MINUTE = "0 * * * * *"
RUN = "of-ours-1"
ENDED = ("Succeeded", "Failed")
# As a step does, it tries again: policies reach a node after the pod.
CONNECT = """
import socket, sys, time
until = time.monotonic() + 30
while True:
    try:
        socket.create_connection((sys.argv[1], int(sys.argv[2])), 8)
        break
    except OSError:
        if time.monotonic() > until:
            raise
        time.sleep(1)
"""


@dataclass(frozen=True)
class Team:
    """A team, its release of the chart, and its deployment without a trainer."""

    cluster: Cluster
    plain: Path
    images: str

    @property
    def account(self) -> str:
        """The account of its pods, as Kubernetes calls it."""
        return f"system:serviceaccount:{self.cluster.namespace.name}:default-editor"

    def configuration(self, name: str = "team", **changes: Any) -> Path:
        return self.cluster.configuration(name, self.images, **changes)

    def seen_from(self, other: "Team") -> Path:
        """Write this team's deployment file as another team's user would have it."""
        kfp = self.cluster.release.deployment()["kfp"]
        host = other.cluster.forwards["kubeflow"].url
        return self.cluster.deployment("theirs", trainer=None, kfp={**kfp, "host": host})


@pytest.fixture(scope="module")
def teams(kubeflow: Any, install: Callable[[str], Cluster]) -> tuple[Team, Team]:
    """Install the chart for two teams."""
    if not kubeflow.multi_user:
        pytest.skip("Kubeflow Pipelines is a single-user installation")
    if len(kubeflow.namespaces) < 2:
        pytest.skip(f"fewer than two profiles: {', '.join(kubeflow.namespaces)}")
    made = []
    for name in kubeflow.namespaces[:2]:
        cluster = install(name)
        images = cluster.upload("data/team", PICTURES)
        made.append(Team(cluster, cluster.deployment("plain", trainer=None), images))
    return made[0], made[1]


@pytest.fixture(scope="module")
def trained(teams: tuple[Team, Team]) -> dict[str, Any]:
    """The first run of the first team, started by a user whom a proxy names."""
    ours, _ = teams
    outcome = ours.cluster.boothline(
        "submit", ours.configuration(), "--deployment", ours.plain, "--run-id", RUN, "--watch"
    )
    assert outcome.code == 0, outcome.said
    return {**outcome.printed, "took": outcome.seconds}


def refused(*words: str) -> str:
    """Run a program that has to fail, and return what it said."""
    program = shutil.which(words[0]) or words[0]
    done = subprocess.run([program, *words[1:]], capture_output=True, text=True)
    assert done.returncode != 0, done.stdout
    return done.stderr.strip()


def test_user_whom_a_proxy_names_runs_and_follows_a_training(
    teams: tuple[Team, Team], trained: dict[str, Any], figure: Any
) -> None:
    """A user in a proxy's header: submit, status, logs; the pods are in the team's namespace"""
    ours, _ = teams
    run = ours.cluster.state(RUN, ours.plain)
    assert run["state"] == "SUCCEEDED"
    assert {step["status"] for step in run["steps"]} == {"done"}
    words = ("logs", RUN, "--step", "train", "--deployment", ours.plain)
    assert "boothline" in "".join(ours.cluster.boothline(*words).printed["logs"].values())
    pods = ours.cluster.namespace.pods(f"pipeline/runid={run['kfp_run_id']}")
    assert pods
    figure(f"{trained['took']:.0f} s, {len(pods)} pods in {ours.cluster.namespace.name}")


def test_account_with_a_token_starts_and_cancels_a_training(
    teams: tuple[Team, Team], kubeflow_forward: Forward, figure: Any
) -> None:
    """A service account's token: refused without it, then submit, status and cancel"""
    ours, _ = teams
    kfp = ours.cluster.release.deployment()["kfp"] | {"host": kubeflow_forward.url}
    nobody = ours.cluster.deployment("nobody", trainer=None, kfp=kfp)
    token = ours.cluster.namespace.kubectl(
        "create", "token", "default-editor", "--audience", AUDIENCE
    ).strip()
    bearer = replace(
        ours.cluster, environment={**ours.cluster.environment, "BOOTHLINE_KFP_TOKEN": token}
    )
    tokened = bearer.deployment("tokened", trainer=None, kfp={**kfp, "auth": "token"})
    config = ours.configuration("tokened", training__num_steps=400, training__seed=5)
    unnamed = ours.cluster.boothline("submit", config, "--deployment", nobody)
    assert unnamed.code == 5, unnamed.said
    assert "401" in unnamed.said
    bearer.boothline("submit", config, "--deployment", tokened, "--run-id", "tokened-1")

    def train_step() -> str:
        steps = bearer.state("tokened-1", tokened)["steps"]
        return next((step["status"] for step in steps if step["name"] == "train"), "")

    until(lambda: train_step() == "running", seconds=900, what="training", pause=3)
    cancelled = bearer.boothline("cancel", "tokened-1", "--deployment", tokened)
    assert cancelled.code == 0, cancelled.said
    assert (cancelled.printed["state"], cancelled.printed["pods"]) == ("CANCELED", [])
    figure(f"without a token 401; cancelled within {cancelled.printed['seconds']:.0f} s")


@pytest.fixture
def kubeflow_forward(teams: tuple[Team, Team]) -> Any:
    """A way to the API past the proxy."""
    forward = Forward("kubeflow", "ml-pipeline", 8888)
    yield forward
    forward.close()


def test_charts_hook_registers_a_retraining_that_runs_in_the_teams_namespace(
    teams: tuple[Team, Team], trained: dict[str, Any], figure: Any
) -> None:
    """The chart's hook registers a retraining and ends it; a run by its account succeeds"""
    ours, _ = teams
    cluster = ours.cluster
    config = yaml.safe_load(ours.configuration().read_text())
    former = cluster.release.values
    hook = {"enabled": True, "cron": EVERY_MINUTE, "config": config}
    cluster.release.values = {**former, "retraining": hook}
    seconds = cluster.release.upgrade(cluster.folder)
    name = f"{cluster.release.name}-retraining"
    try:
        run = until(
            lambda: next((r for r in cluster.listed("runs") if r.get("recurring_run_id")), None),
            seconds=300, what="the first run of the clock", pause=3,
        )  # fmt: skip
        assert enabled(cluster) == [name]
    finally:
        cluster.release.values = former
        cluster.release.upgrade(cluster.folder)
    assert enabled(cluster) == []
    identity = run["run_id"]

    def ended() -> str:
        state = cluster.api("GET", f"runs/{identity}")["state"]
        return state if state in ("SUCCEEDED", "FAILED", "CANCELED") else ""

    state = until(ended, seconds=900, what="the end of the run of the clock", pause=5)
    shown = cluster.state(f"{name}-{identity}", ours.plain)
    assert state == "SUCCEEDED", shown
    done = [step["name"] for step in shown["steps"] if step["status"] in ("done", "reused")]
    figure(f"registered in {seconds:.0f} s, ended with its setting; its run did {', '.join(done)}")


def enabled(cluster: Cluster) -> list[str]:
    """Return the names of the recurring runs that start runs; one with a run is only disabled."""
    found = cluster.listed("recurringruns")
    return [each["display_name"] for each in found if each["status"] == "ENABLED"]


def test_training_of_two_nodes_runs_in_a_teams_namespace(
    teams: tuple[Team, Team], figure: Any
) -> None:
    """A TrainJob of two nodes in the second team's namespace"""
    _, theirs = teams
    if not theirs.cluster.has_trainer:
        pytest.skip("the cluster has no Kubeflow Trainer")
    nodes = theirs.cluster.deployment("nodes")
    outcome = theirs.cluster.boothline(
        "submit", theirs.configuration("nodes"), "--deployment", nodes, "--watch"
    )
    assert outcome.code == 0, outcome.said
    assert theirs.cluster.namespace.read("trainjobs")["items"] == []
    figure(f"{outcome.seconds:.0f} s")


def test_other_team_sees_neither_runs_nor_secrets(
    teams: tuple[Team, Team], trained: dict[str, Any], figure: Any
) -> None:
    """The other team's user and account are refused runs, schedules, pods and Secrets"""
    ours, theirs = teams
    peeking = ours.seen_from(theirs)
    config = theirs.configuration("intruder")
    for words in (
        ("status", RUN),
        ("cancel", RUN),
        ("submit", config, "--run-id", "intruder-1"),
        ("schedule", config, "--name", "intruder"),
    ):
        outcome = theirs.cluster.boothline(*words, "--deployment", peeking)
        assert (outcome.code, outcome.printed) == (5, {}), outcome.said
        assert "403" in outcome.said or "not authorized" in outcome.said, outcome.said
    said = outcome.said.strip().splitlines()[0]
    role, namespace = f"{ours.cluster.release.name}-pipeline", ours.cluster.namespace.name
    for asked in (("secret", role), ("pods",), ("configmaps",), ("workflows",)):
        words = ("kubectl", "get", *asked, "--namespace", namespace, "--as", theirs.account)
        assert "Forbidden" in refused(*words)
    assert theirs.cluster.boothline("status", RUN, "--deployment", theirs.plain).code == 5
    figure(f"4 commands and 4 kinds of objects refused: {said[:120]}")


def test_other_team_reaches_neither_models_nor_buckets(
    teams: tuple[Team, Team], trained: dict[str, Any], figure: Any
) -> None:
    """The other team's keys are refused by the store; its steps' pods do not reach it or MLflow"""
    ours, theirs = teams
    assert "boothline-team" in json.dumps(ours.cluster.boothline("models").printed)
    store = ours.cluster.environment["BOOTHLINE_S3_ENDPOINT"]
    environment = {**theirs.cluster.environment, "BOOTHLINE_S3_ENDPOINT": store}
    outcome = replace(theirs.cluster, environment=environment).boothline("models")
    assert (outcome.code, outcome.printed) == (5, {}), outcome.said
    settings = ours.cluster.release.deployment()["settings"]
    ends = [
        connection(theirs.cluster, address)
        for address in (settings["s3_endpoint"], settings["mlflow_uri"])
    ]
    assert all(end.endswith(("timed out", "refused")) for end in ends), ends
    own = theirs.cluster.release.deployment()["settings"]["s3_endpoint"]
    assert connection(theirs.cluster, own) == ""
    figure(f"pods: {', '.join(ends)}; keys: {outcome.said.strip().splitlines()[0][:120]}")


def connection(cluster: Cluster, address: str) -> str:
    """Return why a pod with the labels of a step cannot connect to an address; empty: it can."""
    host, port = address.removeprefix("http://").split(":")
    name, labels = "boothline-walk", cluster.release.deployment()["labels"]
    words = ("python", "-c", CONNECT, host, port)
    cluster.start_pod(name, *words, labels=labels, requests={"cpu": "10m", "memory": "64Mi"})
    try:
        until(lambda: cluster.phase(name) in ENDED, seconds=180, what=f"the end of pod {name}")
        said = cluster.namespace.kubectl("logs", name).strip()
        return said.splitlines()[-1] if said else ""
    finally:
        cluster.namespace.kubectl("delete", "pod", name, "--wait")


def test_run_whose_driver_fails_says_why(teams: tuple[Team, Team], figure: Any) -> None:
    """A run whose driver fails says why"""
    _, theirs = teams
    kfp = theirs.cluster.release.deployment()["kfp"]
    host = theirs.cluster.forwards["kubeflow"].url
    kfp |= {"host": host, "pipeline_root": "nowhere://bucket/there"}
    broken = theirs.cluster.deployment("broken", trainer=None, kfp=kfp)
    started = time.monotonic()
    outcome = theirs.cluster.boothline(
        "submit", theirs.configuration("broken"), "--deployment", broken, "--run-id", "broken-1",
        "--watch",
    )  # fmt: skip
    assert outcome.code == 1, outcome.said
    last = outcome.said.strip().splitlines()
    assert "nowhere://" in outcome.said, outcome.said
    reason = next(line for line in last if "nowhere://" in line)
    figure(f"after {time.monotonic() - started:.0f} s: {reason[:160]}")
