"""The commands of docs/kubernetes.md, as they are printed and in their order, on a cluster."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_here import ROLES, ROOT, Cluster, Forward, Namespace, Release

pytestmark = pytest.mark.cluster

PAGE = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
SECTION = re.compile(r"^## (?:\d+\. )?(.*?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
FIRST_VALUES = re.compile(r"^```yaml\n(# values.yaml\n.*?)^```", re.MULTILINE | re.DOTALL)
PLACEHOLDER = "20260131-093000-1a2b"
# What stands on the page and is not run here, and why.
LEFT_OUT = {
    "Images": "the nodes have the images",
    "What each step gets": "it changes Kubeflow for all who use it",
}
# What the page says in words, or elsewhere.
KEYS = [
    "openssl ecparam -name prime256v1 -genkey -noout"
    " | openssl pkcs8 -topk8 -nocrypt -out signing.pem",
    "openssl pkey -in signing.pem -pubout -out verification.pem",
]
REMOVE = ["boothline schedule --name catalogue --remove --deployment deployment.yaml"]
NAMESPACE = re.compile(r"kubectl (create|label|delete) namespace ")
PORTS = (8888, 8333)
"""To which its commands forward Kubeflow and the store."""
PROGRAM = ("bash", "-euo", "pipefail", "-c")
SETUP = ("The namespace and its secrets", "Install")
FIRST, NIGHTLY = "Pictures and the first run", "Retraining every night, through the gate"
PICTURES, SERVED, END = "Pictures by a registered model", "A served champion", "Leave"


def printed(*sections: str, namespace: str) -> list[str]:
    """Return the commands of sections; a namespace that is there is neither made nor removed."""
    found = []
    for title, text in SECTION.findall(PAGE):
        if title in sections:
            joined = "".join(BLOCK.findall(text)).replace("\\\n", " ")
            found += [line for line in joined.splitlines() if not NAMESPACE.match(line)]
    assert found, sections
    return [re.sub(r"(namespace) imaging\b", rf"\1 {namespace}", line) for line in found]


def script(lines: list[str]) -> str:
    """Return a program of commands; what was started beside it ends with it."""
    started = "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"
    return "\n".join(
        [started, *(f"{line}\nsleep 5" if line.rstrip().endswith("&") else line for line in lines)]
    )


@pytest.fixture
def page(kubeflow: Any, tmp_path: Path) -> Iterator[Cluster]:
    """A folder as the page's reader has it, and what clears up behind it."""
    if kubeflow.multi_user:
        pytest.skip("the page's commands name no user, for which a multi-user Kubeflow asks")
    for port in PORTS:
        if is_taken(port):
            pytest.skip(f"the page forwards port {port}, which is taken on this machine")
    namespace = Namespace(kubeflow.namespaces[0])
    (tmp_path / "charts").symlink_to(ROOT / "charts")
    release = Release(namespace, {}, single_user=True)
    found = FIRST_VALUES.search(PAGE)
    assert found
    values = yaml.safe_load(found[1])
    values.pop("images")
    values["networkPolicy"]["apiServerCidrs"] = api_servers()
    further = os.environ.get("BOOTHLINE_TEST_VALUES", "")
    for over in [release.values, yaml.safe_load(Path(further).read_text()) if further else {}]:
        for section in ("pipelines", "networkPolicy", "hooks"):
            values.setdefault(section, {}).update(over.get(section, {}))
    release.name, release.secret = "boothline", "s3"
    values["pipelines"]["experiment"] = release.name
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    clean = {k: v for k, v in os.environ.items() if not k.startswith("BOOTHLINE_")}
    folders = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**clean, "PYTHONPATH": str(ROOT), "PATH": folders}
    forwards = {"kubeflow": Forward("kubeflow", "ml-pipeline", 8888)}
    made = Cluster(namespace, release, tmp_path, forwards, kubeflow.versions, 0.0, environment)
    yield made
    clear(made)


def is_taken(port: int) -> bool:
    """Return whether something listens at a port of this machine."""
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def api_servers() -> list[str]:
    """Return the addresses of the API server, as a policy names them."""
    default = Namespace("default")
    subsets = default.read("endpoints", "kubernetes")["subsets"]
    service = default.read("service", "kubernetes")["spec"]["clusterIP"]
    found = [address["ip"] for subset in subsets for address in subset["addresses"]]
    return [f"{address}/32" for address in (service, *found)]


def clear(cluster: Cluster) -> None:
    """Remove what the page leaves: the runs, the volumes, the Secrets."""
    for item in cluster.listed("runs"):
        cluster.api("DELETE", f"runs/{item['run_id']}")
    if experiment := cluster.experiment():
        cluster.api("DELETE", f"experiments/{experiment}")
    kubectl, selector = cluster.namespace.kubectl, "app.kubernetes.io/instance=boothline"
    kubectl("delete", "persistentvolumeclaims", "--selector", selector)
    names = (*(f"s3-{role}" for role in (*ROLES, "signing")), "model-signing")
    kubectl("delete", "secrets", "--ignore-not-found", *names)
    kubectl("delete", "configmaps", "--ignore-not-found", "model-verification")
    cluster.forwards["kubeflow"].close()


def run(cluster: Cluster, lines: list[str]) -> None:
    """Run commands in the reader's folder."""
    done = subprocess.run(
        [*PROGRAM, script(lines)], cwd=cluster.folder, env=cluster.environment,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def followed(lines: list[str]) -> list[str]:
    """Return the commands of the first run, of which those that cancel get a run to cancel.

    The page shows one run for all of them. Here the first ends, and is looked at; a second one is
    started without waiting for it, cancelled and resumed.
    """
    where = next(n for n, line in enumerate(lines) if line.startswith("boothline cancel"))
    other = "boothline submit run.yaml --set training.seed=5 --run-id other-1"
    lines = [*lines[:where], f"{other} --deployment deployment.yaml", *lines[where:]]
    watched = [line for line in lines if line.startswith("boothline submit") and "--watch" in line]
    first = f"{watched[0].partition('#')[0]} --run-id first-1"
    lines = [first if line == watched[0] else line for line in lines]
    named = [line.replace(PLACEHOLDER, "first-1") for line in lines[:where]]
    named += [line.replace(PLACEHOLDER, "other-1") for line in lines[where:]]
    return named


def test_commands_of_the_page_run_as_printed(page: Cluster, figure: Any) -> None:
    """Every command of docs/kubernetes.md, from the Secrets to `helm uninstall`"""
    with_commands = {title for title, text in SECTION.findall(PAGE) if BLOCK.search(text)}
    assert with_commands == {*SETUP, FIRST, NIGHTLY, PICTURES, SERVED, END, *LEFT_OUT}
    started, name = time.monotonic(), page.namespace.name
    install = printed(*SETUP, namespace=name)
    run(page, install)
    installed = time.monotonic() - started
    try:
        page.forwards["store"] = Forward(name, "boothline-s3", 8333)
        folder = ROOT / "examples" / "subjects" / "teddy-bear"
        images = page.upload("data/teddy-bear", sorted(folder.glob("*.jpg")))
        page.configuration("teddy-bear", images).rename(page.folder / "run.yaml")  # of few steps
        lines = followed(printed(FIRST, namespace=name))
        lines += printed(NIGHTLY, PICTURES, namespace=name)
        lines += [*REMOVE, *KEYS, *printed(SERVED, namespace=name)]
        run(page, lines)
    finally:
        page.forwards.pop("store").close()
        run(page, printed(END, namespace=name))
    left = ", ".join(f"{title} ({why})" for title, why in LEFT_OUT.items())
    figure(f"installed in {installed:.0f} s; {len(install) + len(lines)} lines in "
           f"{time.monotonic() - started:.0f} s; left out: {left}")  # fmt: skip
