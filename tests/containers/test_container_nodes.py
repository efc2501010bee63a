"""Two nodes as containers on a network of their own, told by exactly what Kubeflow Trainer sets."""

import json
import os
import shutil
import socket
import socketserver
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_jobs import training_job

import boothline
from boothline.diffusion.base_model import resolve
from boothline.settings import Settings
from boothline.store import Store
from boothline.training.job import TrainingJob
from boothline.training.launch import TrainingResult, result_of
from boothline.trainjob.files import EVENT_MARK, receive_result, result_place, send_job
from boothline.trainjob.manifest import COMMAND

pytestmark = [pytest.mark.containers, pytest.mark.services]

IMAGE = f"boothline/torch:{boothline.__version__}"
SCRATCH = "/tmp:size=512m,mode=1777"  # noqa: S108 - a mount of the container
MASTER_PORT = "29500"
BUILTIN = "builtin:tiny-emoji-sd"
NUM_STEPS = 30
LOST_AFTER_STEP = 6
MOST_DIFFERENCE = 1e-6
ONE_THREAD = ("--env", "OMP_NUM_THREADS=1")
ONE_CORE = ("--cpus", "1")


def docker(*arguments: str, check: bool = True) -> str:
    program = shutil.which("docker") or "docker"
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.strip()


class _Relay(socketserver.BaseRequestHandler):
    """Passes a connection on to the store, which listens on this machine's loopback alone."""

    upstream: tuple[str, int]

    def handle(self) -> None:
        with socket.create_connection(self.upstream) as store:
            back = threading.Thread(target=_pass_on, args=(store, self.request), daemon=True)
            back.start()
            _pass_on(self.request, store)
            back.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    try:
        while block := source.recv(65536):
            target.sendall(block)
        target.shutdown(socket.SHUT_WR)
    except OSError:  # a killed node leaves its connections torn
        return


class Network:
    """A Docker network from which the store is reached, and the nodes on it."""

    def __init__(self, name: str, settings: Settings, models: Path) -> None:
        self.name = name
        docker("network", "create", name)
        inspect = ("network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", name)
        self._gateway = docker(*inspect)
        self._settings = settings
        self._models = models
        upstream = ("127.0.0.1", int(settings.s3_endpoint.rpartition(":")[2]))
        handler = type("Relay", (_Relay,), {"upstream": upstream})
        self._relay = socketserver.ThreadingTCPServer((self._gateway, 0), handler)
        self._relay.daemon_threads = True
        threading.Thread(target=self._relay.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._relay.shutdown()
        self._relay.server_close()
        docker("network", "rm", self.name, check=False)

    def _environment(self, trainer: Mapping[str, str]) -> list[str]:
        settings = self._settings
        values = {
            "BOOTHLINE_S3_ENDPOINT": f"http://{self._gateway}:{self._relay.server_address[1]}",
            "BOOTHLINE_S3_ACCESS_KEY": settings.s3_access_key,
            "BOOTHLINE_S3_SECRET_KEY": settings.s3_secret_key.get_secret_value(),
            "BOOTHLINE_BUCKET": settings.bucket,
            "BOOTHLINE_PREFIX": settings.prefix,
            **trainer,
        }
        return [part for item in values.items() for part in ("--env", "=".join(item))]

    def _start(self, node: int, num_nodes: int, ref: str, *, more: Sequence[str]) -> str:
        # Trainer's names: <TrainJob>-<replicated job>-0-<index>.<TrainJob>
        hosts = [f"{self.name}-node-0-{number}.{self.name}" for number in range(num_nodes)]
        trainer = {
            "PET_NNODES": str(num_nodes),
            "PET_NPROC_PER_NODE": "1",
            "PET_NODE_RANK": str(node),
            "PET_MASTER_ADDR": hosts[0],
            "PET_MASTER_PORT": MASTER_PORT,
        }
        limits = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")
        place = ("--network", self.name, "--network-alias", hosts[node], "--tmpfs", SCRATCH)
        models = ("--volume", f"{self._models}:{self._models}:ro")
        options = (*limits, *place, *models, *self._environment(trainer), *more)
        return docker("run", "--detach", *options, IMAGE, *COMMAND, ref)

    @contextmanager
    def nodes(
        self, ref: str, num_nodes: int, *, more: Sequence[str] = ONE_THREAD
    ) -> Iterator[list[str]]:
        """Run the nodes of a TrainJob, with further options of Docker; none outlives the block."""
        containers: list[str] = []
        try:
            for node in range(num_nodes):
                containers.append(self._start(node, num_nodes, ref, more=more))
            yield containers
        finally:
            docker("rm", "--force", *containers, check=False)


@pytest.fixture
def network(store_settings: Settings, tiny_pipeline: Path) -> Iterator[Network]:
    made = Network(f"boothline-{uuid4().hex[:12]}", store_settings, tiny_pipeline)
    yield made
    made.close()


def job_of(
    folder: Path, source: str, settings: Settings, *, world_size: int, num_steps: int = NUM_STEPS
) -> TrainingJob:
    """Return a job whose base model the nodes find under the same name."""
    base = resolve(source, settings=settings)
    value = training_job(folder, base.path, world_size=world_size, num_steps=num_steps)
    value["config"]["base_model"] = {"source": source}
    value["base_model_digest"] = base.digest
    (folder / "result").mkdir()
    job = {**value, "states": f"training/{folder.name}", "folder": folder / "result"}
    return TrainingJob.model_validate(job)


def log_of(container: str) -> str:
    program = shutil.which("docker") or "docker"
    done = subprocess.run([program, "logs", container], capture_output=True, text=True)
    return done.stdout + done.stderr


def wait_for(containers: list[str]) -> list[int]:
    return [int(code) for code in docker("wait", *containers).split()]


def events_of(container: str) -> Iterator[dict[str, Any]]:
    """Yield the events of a node as they come."""
    program = shutil.which("docker") or "docker"
    command = [program, "logs", "--follow", container]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as logs:
        assert logs.stdout is not None
        for line in map(bytes.decode, logs.stdout):
            if line.startswith(EVENT_MARK):
                yield json.loads(line.removeprefix(EVENT_MARK))


def result_from(store: Store, job: TrainingJob, ref: str) -> TrainingResult:
    assert receive_result(store, job, place=result_place(ref))
    return result_of(job)


def unet_of(store: Store, result: TrainingResult, folder: Path) -> dict[str, np.ndarray]:
    return load_file(store.fetch(result.final_state, folder) / "unet.safetensors")


@pytest.mark.proves("F38/nodes")
def test_two_containers_train_what_one_does_and_a_killed_one_changes_nothing(
    network: Network,
    store: Store,
    store_settings: Settings,
    tiny_pipeline: Path,
    tmp_path: Path,
) -> None:
    for path in (tiny_pipeline, *tiny_pipeline.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    weights = {}
    for name, num_nodes in (("one", 1), ("two", 2)):
        job = job_of(tmp_path / name, str(tiny_pipeline), store_settings, world_size=num_nodes)
        ref = str(send_job(store, job))
        with network.nodes(ref, num_nodes) as containers:
            assert set(wait_for(containers)) == {0}, log_of(containers[0])
        weights[name] = unet_of(store, result_from(store, job, ref), tmp_path / f"{name}-unet")

    lost = job_of(tmp_path / "lost", str(tiny_pipeline), store_settings, world_size=2)
    ref = str(send_job(store, lost))
    with network.nodes(ref, 2) as containers:
        assert any(event.get("step", 0) >= LOST_AFTER_STEP for event in events_of(containers[0]))
        docker("kill", "--signal", "KILL", containers[1])
        killed = time.monotonic()
        assert wait_for(containers[:1]) != [0]
        assert time.monotonic() - killed < 30
    with network.nodes(ref, 2) as containers:
        started = next(event for event in events_of(containers[0]) if event["event"] == "start")
        assert 0 < started["step"] < NUM_STEPS
        assert wait_for(containers) == [0, 0], log_of(containers[0])
    weights["lost"] = unet_of(store, result_from(store, lost, ref), tmp_path / "lost-unet")

    for name in ("two", "lost"):
        differences = [np.abs(weights[name][key] - weights["one"][key]) for key in weights["one"]]
        assert max(float(item.max()) for item in differences) <= MOST_DIFFERENCE, name


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core: nothing to limit")
def test_container_limited_to_one_core_trains_at_the_pace_of_one_thread(
    network: Network, store: Store, store_settings: Settings, tmp_path: Path
) -> None:
    seconds: dict[str, list[float]] = {"first": [], "free": [], "one": []}
    # What runs first, with all caches cold, is slower than the others and is not compared.
    for number, name in enumerate(("first", "free", "one", "free", "one")):
        threads = ONE_THREAD if name == "one" else ()
        job = job_of(tmp_path / str(number), BUILTIN, store_settings, world_size=1, num_steps=15)
        ref = str(send_job(store, job))
        with network.nodes(ref, 1, more=(*ONE_CORE, *threads)) as containers:
            steps = [event for event in events_of(*containers) if event["event"] == "step"]
            assert wait_for(containers) == [0], log_of(*containers)
        # Steps that are reported together have uneven paces, but their times add up.
        seconds[name] += [statistics.mean(1 / event["images_per_second"] for event in steps[3:])]
    # The rest of the machine can only make a training slower: the better one of each counts.
    assert 0.9 * min(seconds["free"]) < min(seconds["one"]), seconds
