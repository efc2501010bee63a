"""A real Kubernetes with Kubeflow: what is installed for the tests, and the table of them."""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_here import ROOT, Cluster, Forward, Namespace, Release, command
from user_proxy import UserProxy

KUBEFLOW = os.environ.get("BOOTHLINE_TEST_KUBEFLOW", "kubeflow")
PROFILE = "app.kubernetes.io/part-of=kubeflow-profile"
MEMBER = "--clusterrole=kubeflow-pipelines-edit"
_TABLE, _END = "<!-- written by make test-cluster -->", "<!-- end -->"
_ROWS: list[dict[str, str]] = []
_FIGURES = pytest.StashKey[list[str]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Generator[None, Any, Any]:
    """Keep one row of the table for each test: its first line, its figures, how it ended."""
    report: Any = yield
    if report.when == "call" or (report.when == "setup" and not report.passed):
        reason = report.longrepr[2] if report.skipped else ""
        figures = [*item.stash.get(_FIGURES, []), *([f"not run: {reason}"] if reason else [])]
        words = (item.function.__doc__ or item.name).partition("\n")[0]
        _ROWS.append({"row": words, "figure": "; ".join(figures), "verdict": report.outcome})
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table; write it into the page that BOOTHLINE_CLUSTER_TABLE names, at its marks."""
    if not _ROWS:
        return
    lines = ["| what a cluster has to do | measured | |", "| --- | --- | --- |"]
    lines += [f"| {row['row']} | {row['figure']} | {row['verdict']} |" for row in _ROWS]
    terminalreporter.write_line("\n".join(["", *lines]))
    if file := os.environ.get("BOOTHLINE_CLUSTER_TABLE"):
        before, mark, rest = Path(file).read_text().partition(_TABLE)
        _, end, behind = rest.partition(_END)
        table = "\n".join(lines)
        Path(file).write_text(f"{before}{mark}\n\n{table}\n\n{end}{behind}")


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Any:
    """Return a function that notes a figure of the test's row."""
    return request.node.stash.setdefault(_FIGURES, []).append


def _versions(kubeflow: Namespace) -> dict[str, str]:
    """Return the versions of what the cluster runs."""
    server = json.loads(command("kubectl", "version", "--output", "json"))["serverVersion"]
    found = {"Kubernetes": server["gitVersion"]}
    for name, deployment in (("Pipelines", "ml-pipeline"), ("Argo", "workflow-controller")):
        spec = kubeflow.read("deployment", deployment)["spec"]["template"]["spec"]
        found[name] = spec["containers"][0]["image"].rpartition(":")[2]
    return found


@dataclass(frozen=True)
class Kubeflow:
    """The Kubeflow Pipelines that the tests use.

    Attributes:
        namespaces: those that runs may be in: its own, or the profiles of a multi-user one.
        multi_user: whether it asks who a request comes from.
        versions: of what the cluster runs.
    """

    namespaces: list[str]
    multi_user: bool
    versions: dict[str, str]


@pytest.fixture(scope="session")
def kubeflow() -> Kubeflow:
    """Look at the cluster, or skip."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster")
    own = Namespace(KUBEFLOW)
    if not own.kubectl("get", "service", "ml-pipeline", "--output", "name", check=False):
        pytest.skip(f"namespace {KUBEFLOW} has no Kubeflow Pipelines")
    forward = Forward(KUBEFLOW, "ml-pipeline", 8888)
    with urllib.request.urlopen(f"{forward.url}/apis/v2beta1/healthz") as answer:  # noqa: S310
        multi_user = bool(json.load(answer).get("multi_user"))
    forward.close()
    listed = own.read("namespaces", "--selector", PROFILE)["items"] if multi_user else []
    names = [item["metadata"]["name"] for item in listed] or [KUBEFLOW]
    if chosen := os.environ.get("BOOTHLINE_TEST_NAMESPACE"):
        names = [chosen, *(name for name in names if name != chosen)]
    return Kubeflow(names, multi_user, _versions(own))


@pytest.fixture(scope="module")
def install(
    kubeflow: Kubeflow, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Cluster]]:
    """Return a function that installs the chart in a namespace; leave nothing behind."""
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(
            _installed(kubeflow, Namespace(name), tmp_path_factory.mktemp("cluster"))
        )


@pytest.fixture(scope="module")
def cluster(kubeflow: Kubeflow, install: Callable[[str], Cluster]) -> Cluster:
    """Install the chart by a name of its own, with a store that has nothing of another file's."""
    return install(kubeflow.namespaces[0])


@contextmanager
def _installed(kubeflow: Kubeflow, namespace: Namespace, folder: Path) -> Iterator[Cluster]:
    """Install the chart in a namespace; where Kubeflow asks who it is, as a user of its own."""
    file = os.environ.get("BOOTHLINE_TEST_VALUES", "")
    further = yaml.safe_load(Path(file).read_text()) if file else {}
    release = Release(namespace, further, single_user=not kubeflow.multi_user)
    api: Forward | UserProxy = Forward(KUBEFLOW, "ml-pipeline", 8888)
    if kubeflow.multi_user:
        user = f"{release.name}@example.org"
        namespace.kubectl("create", "rolebinding", release.name, MEMBER, f"--user={user}")
        api = UserProxy(api, user)
    release.make_secrets()
    seconds = release.upgrade(folder)
    forwards = {
        "kubeflow": api,
        "store": Forward(namespace.name, f"{release.name}-s3", 8333),
        "mlflow": Forward(namespace.name, f"{release.name}-mlflow", 5000),
    }
    access, secret = release.keys("pipeline")
    clean = {k: v for k, v in os.environ.items() if not k.startswith("BOOTHLINE_")}
    environment = {
        **clean, "PYTHONPATH": str(ROOT), "BOOTHLINE_S3_ENDPOINT": forwards["store"].url,
        "BOOTHLINE_S3_ACCESS_KEY": access, "BOOTHLINE_S3_SECRET_KEY": secret,
        "BOOTHLINE_MLFLOW_URI": forwards["mlflow"].url,
    }  # fmt: skip
    made = Cluster(namespace, release, folder, forwards, kubeflow.versions, seconds, environment)
    yield made
    _clear(made)
    namespace.kubectl("delete", "rolebinding", release.name, "--ignore-not-found")


def _clear(cluster: Cluster) -> None:
    """Remove the runs, the release, its Secrets and volumes."""
    for run in cluster.listed("runs"):
        if run.get("state") in ("PENDING", "RUNNING"):
            with suppress(urllib.error.HTTPError):  # it may have ended since
                cluster.api("POST", f"runs/{run['run_id']}:terminate")
    for item in cluster.listed("recurringruns"):
        cluster.api("DELETE", f"recurringruns/{item['recurring_run_id']}")
    for run in cluster.listed("runs"):
        cluster.api("DELETE", f"runs/{run['run_id']}")
    if experiment := cluster.experiment():
        cluster.api("DELETE", f"experiments/{experiment}")
    cluster.release.remove()
    for forward in cluster.forwards.values():
        forward.close()


@pytest.fixture(scope="module")
def pictures(cluster: Cluster) -> str:
    """Return the address of the example's pictures in the cluster's store."""
    folder = ROOT / "examples" / "subjects" / "teddy-bear"
    return cluster.upload("data/teddy-bear", sorted(folder.glob("*.jpg")))
