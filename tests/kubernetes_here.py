"""The cluster that KUBECONFIG names, by kubectl and Helm as its users have them."""

import json
import re
import secrets
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from minio import Minio

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "charts" / "boothline"
ROLES = ("admin", "pipeline", "reader", "collector")
# Every step runs, the gate lets the model through; the pictures are not looked at.
SMALL: dict[str, Any] = {
    "training.num_steps": 20, "training.batch_size": 2, "training.sample_every_steps": 0,
    "prior.num_images": 4, "prior.num_shards": 1, "prior.sampling.num_steps": 2,
    "prior.prompts": ["a photo of a {class}"],
    "evaluation.prompts": ["a {subject} on the moon", "a {subject} in snow"],
    "evaluation.images_per_prompt": 1, "evaluation.sampling.num_steps": 2,
    "inference.num_shards": 1, "inference.sampling.num_steps": 2,
    "promotion.margins.min_subject_gain": -2, "promotion.margins.max_prompt_loss": 2,
}  # fmt: skip
RESTRICTED = {
    "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True,
    "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"},
}  # fmt: skip
_FORWARDED = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


def command(*words: str, check: bool = True, text: str = "") -> str:
    """Run a program and return what it printed."""
    program = shutil.which(words[0]) or words[0]
    done = subprocess.run([program, *words[1:]], input=text, capture_output=True, text=True)
    assert not check or done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout


def until(met: Callable[[], Any], *, seconds: float, what: str, pause: float = 1.0) -> Any:
    """Return what `met()` returns as soon as that is true; fail after so many seconds."""
    waiting, deadline = threading.Event(), time.monotonic() + seconds
    while not (value := met()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        waiting.wait(pause)
    return value


class Forward:
    """A port of this machine that leads to a service of the cluster, also after its pod was lost.

    Args:
        namespace: where the service is.
        service: its name.
        port: its port.
    """

    def __init__(self, namespace: str, service: str, port: int) -> None:
        self._words = ["kubectl", "port-forward", "--namespace", namespace, f"service/{service}"]
        self.port = self._start(f":{port}")
        self._target = port
        self._ending = threading.Event()
        self._watch = threading.Thread(target=self._keep, daemon=True)
        self._watch.start()

    @property
    def url(self) -> str:
        """The address here."""
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """Stop it."""
        self._ending.set()
        self._process.kill()
        self._watch.join()

    def _start(self, ports: str) -> int:
        pipe = subprocess.PIPE
        process = subprocess.Popen([*self._words, ports], stdout=pipe, stderr=pipe, text=True)
        self._process = process  # at once: `close` has to end one that never says where it listens
        assert process.stdout is not None
        found = _FORWARDED.search(process.stdout.readline())
        assert found, process.communicate()[1]
        threading.Thread(target=process.stdout.read, daemon=True).start()
        return int(found[1])

    def _keep(self) -> None:
        while not self._ending.wait(0.5):
            if self._process.poll() is not None:
                try:
                    self._start(f"{self.port}:{self._target}")
                except AssertionError:  # its pod is not back yet
                    self._ending.wait(1)


class Namespace:
    """A namespace of the cluster.

    Args:
        name: its name.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def kubectl(self, *words: str, check: bool = True, text: str = "") -> str:
        """Run kubectl there."""
        return command("kubectl", "--namespace", self.name, *words, check=check, text=text)

    def read(self, *words: str) -> dict[str, Any]:
        """Return what kubectl gets, as JSON."""
        value: dict[str, Any] = json.loads(self.kubectl("get", *words, "--output", "json"))
        return value

    def pods(self, selector: str) -> list[dict[str, Any]]:
        """Return the pods with labels."""
        items: list[dict[str, Any]] = self.read("pods", "--selector", selector)["items"]
        return items

    def active(self, selector: str) -> list[str]:
        """Return the names of the pods with labels that have not ended."""
        ended = ("Succeeded", "Failed")
        return [
            pod["metadata"]["name"]
            for pod in self.pods(selector)
            if pod["status"]["phase"] not in ended
        ]


class Release:
    """The chart, installed by the name of one test run.

    Args:
        namespace: where.
        further: values over those of these tests.
        single_user: whether Kubeflow Pipelines knows one namespace only.
    """

    def __init__(self, namespace: Namespace, further: dict[str, Any], *, single_user: bool) -> None:
        self.namespace = namespace
        self.name = f"boothline-t{secrets.token_hex(2)}"
        self.secret = self.name
        self.further = further
        text = (
            (Path(__file__).parent / "cluster" / "values.yaml")
            .read_text()
            .replace("RELEASE", self.name)
        )
        self.values: dict[str, Any] = yaml.safe_load(text)
        if single_user:
            self.values["pipelines"] |= {"multiUser": False, "serviceAccount": "pipeline-runner"}

    def make_secrets(self) -> None:
        """Make the Secrets that the chart asks for."""
        for role in ROLES:
            keys = [f"access-key=boothline-{role}-{secrets.token_hex(4)}"]
            keys.append(f"secret-key={secrets.token_hex(24)}")
            self._secret(role, keys)
        self._secret("signing", [f"signing-key={secrets.token_hex(24)}"])

    def _secret(self, role: str, keys: list[str]) -> None:
        literals = [f"--from-literal={key}" for key in keys]
        self.namespace.kubectl("create", "secret", "generic", f"{self.secret}-{role}", *literals)

    def upgrade(self, folder: Path, *settings: str) -> float:
        """Install or upgrade it; return the seconds that it took."""
        files = []
        for name, values in (("tests", self.values), ("further", self.further)):
            path = folder / f"{name}.yaml"
            path.write_text(yaml.safe_dump(values))
            files += ["--values", str(path)]
        started = time.monotonic()
        sets = [part for setting in settings for part in ("--set", setting)]
        command("helm", "upgrade", "--install", self.name, str(CHART), *files, *sets,
                "--namespace", self.namespace.name, "--wait", "--timeout", "10m")  # fmt: skip
        return time.monotonic() - started

    def keys(self, role: str) -> tuple[str, str]:
        """Return access key and secret key of a role."""
        import base64

        data = self.namespace.read("secret", f"{self.secret}-{role}")["data"]
        access, secret = (base64.b64decode(data[k]).decode() for k in ("access-key", "secret-key"))
        return access, secret

    def deployment(self) -> dict[str, Any]:
        """Return the deployment file that the chart made."""
        text = self.namespace.read("configmap", f"{self.name}-deployment")["data"]
        value: dict[str, Any] = yaml.safe_load(text["deployment.yaml"])
        return value

    def remove(self) -> list[str]:
        """Uninstall it; return what is left, of which the volumes are then removed."""
        command("helm", "uninstall", self.name, "--namespace", self.namespace.name, "--wait")
        selector = f"app.kubernetes.io/instance={self.name}"
        kinds = "all,configmaps,serviceaccounts,networkpolicies,persistentvolumeclaims,roles"
        listed = self.namespace.kubectl("get", kinds, "--selector", selector, "--output", "name")
        left = [
            line
            for line in listed.split()
            if not line.startswith("pod/") or line.removeprefix("pod/") in self._own_pods(selector)
        ]
        self.namespace.kubectl("delete", "persistentvolumeclaims", "--selector", selector)
        self.namespace.kubectl(
            "delete", "secrets", *(f"{self.secret}-{role}" for role in (*ROLES, "signing"))
        )
        return left

    def _own_pods(self, selector: str) -> list[str]:
        """Return the pods of the release that are not those of a run."""
        pods = self.namespace.pods(selector)
        return [
            p["metadata"]["name"] for p in pods if "pipeline/runid" not in p["metadata"]["labels"]
        ]


@dataclass
class Outcome:
    """How a command ended."""

    code: int
    printed: dict[str, Any]
    said: str
    seconds: float


@dataclass
class Cluster:
    """The chart on a cluster, and the command line beside it."""

    namespace: Namespace
    release: Release
    folder: Path
    forwards: dict[str, Any]
    versions: dict[str, str]
    seconds_to_install: float
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def has_trainer(self) -> bool:
        """Whether training over several nodes can be asked for."""
        return "trainer" in self.release.deployment()

    def deployment(self, name: str, **changes: Any) -> Path:
        """Write a deployment file, of which sections are replaced; None leaves one out."""
        value = self.release.deployment()
        value["kfp"]["host"] = self.forwards["kubeflow"].url
        value |= changes
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({k: v for k, v in value.items() if v is not None}))
        return path

    def start_pod(
        self, name: str, *command: str, labels: dict[str, str], requests: dict[str, str]
    ) -> None:
        """Start a pod of the image without torch that a restricted namespace admits."""
        deployment = self.release.deployment()
        container = {
            "name": "main", "image": deployment["images"]["tools"], "command": command,
            "imagePullPolicy": deployment["image_pull_policy"], "securityContext": RESTRICTED,
            "resources": {"requests": requests},
        }  # fmt: skip
        pod = {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
            "spec": {"containers": [container], "restartPolicy": "Never"},
        }  # fmt: skip
        self.namespace.kubectl("create", "-f", "-", text=json.dumps(pod))

    def phase(self, pod: str) -> str:
        """Return the phase of a pod."""
        return str(self.namespace.read("pod", pod)["status"]["phase"])

    def store(self, role: str = "pipeline") -> Minio:
        """Return a client of the object store with the keys of a role."""
        access, secret = self.release.keys(role)
        host = self.forwards["store"].url.removeprefix("http://")
        return Minio(host, access_key=access, secret_key=secret, secure=False)

    def upload(self, prefix: str, pictures: list[Path]) -> str:
        """Put pictures and their captions into the store and return their address."""
        for path in pictures:
            for file in path.parent.glob(f"{path.stem}.*"):
                self.store().fput_object("boothline", f"{prefix}/{file.name}", str(file))
        return f"s3://boothline/{prefix}/"

    def configuration(self, name: str, images: str, **changes: Any) -> Path:
        """Write a small configuration; `__` in the name of a setting stands for its dot."""
        value: dict[str, Any] = {
            "subject": {"name": name, "images": images, "identifier": "sks", "class_noun": "bear"}
        }
        for dotted, setting in {
            **SMALL,
            **{k.replace("__", "."): v for k, v in changes.items()},
        }.items():
            *sections, last = dotted.split(".")
            inner = value
            for part in sections:
                inner = inner.setdefault(part, {})
            inner[last] = setting
        path = self.folder / f"{name}.run.yaml"
        path.write_text(yaml.safe_dump(value))
        return path

    def start(self, *words: str | Path) -> "subprocess.Popen[str]":
        """Start a command of Boothline."""
        argv = [sys.executable, "-m", "boothline.cli.app", *map(str, words), "--output", "json"]
        return subprocess.Popen(
            argv, cwd=self.folder, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def boothline(self, *words: str | Path) -> Outcome:
        """Run a command of Boothline to its end, once the Kubeflow API can be reached from here."""
        self.api("GET", "healthz")
        started = time.monotonic()
        return self.ended(self.start(*words), started)

    def ended(self, process: "subprocess.Popen[str]", started: float = 0.0) -> Outcome:
        """Wait for a command's end."""
        printed, said = process.communicate()
        value = json.loads(printed) if printed.startswith("{") else {}
        return Outcome(process.returncode, value, said, time.monotonic() - started)

    def api(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Ask the Kubeflow Pipelines API itself."""
        request = urllib.request.Request(  # noqa: S310  (a port of this machine)
            f"{self.forwards['kubeflow'].url}/apis/v2beta1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )

        def answer() -> dict[str, Any] | None:
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                    return {"": None, **json.load(answer)}
            except urllib.error.HTTPError:
                raise
            except OSError:  # the forward is made again
                return None

        found: dict[str, Any] = until(answer, seconds=120, what=f"an answer to {method} {path}")
        return found

    @property
    def _owner(self) -> str:
        """What a query adds where runs belong to a namespace."""
        single_user = self.release.values["pipelines"].get("multiUser") is False
        return "" if single_user else f"&namespace={self.namespace.name}"

    def experiment(self) -> str:
        """Return the API's id of the experiment of these tests; empty before the first run."""
        answer = self.api("GET", f"experiments?page_size=200{self._owner}")
        named = [e for e in answer.get("experiments", []) if e["display_name"] == self.release.name]
        return str(named[0]["experiment_id"]) if named else ""

    def listed(self, kind: str) -> list[dict[str, Any]]:
        """Return the `runs` or `recurringruns` of these tests, oldest first."""
        experiment = self.experiment()
        if not experiment:
            return []
        of_tests = f"experiment_id={experiment}{self._owner}"
        answer = self.api("GET", f"{kind}?page_size=100&{of_tests}")
        items = next((value for value in answer.values() if isinstance(value, list)), [])
        return sorted(items, key=lambda item: item["created_at"])

    def state(self, run_id: str, deployment: Path) -> dict[str, Any]:
        """Return how a run stands, as `boothline status` says it."""
        return self.boothline("status", run_id, "--deployment", deployment).printed
