"""Two nodes as in a TrainJob: one torchrun agent each, told by exactly the PET_* variables."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file

from boothline.diffusion.base_model import resolve
from boothline.settings import Settings
from boothline.store import Store
from boothline.training.job import TrainingJob
from boothline.training.launch import result_of, train
from boothline.trainjob.files import EVENT_MARK, receive_result, result_place, send_job

# Each node imports torch anew: over a minute on two cores.
pytestmark = [pytest.mark.services, pytest.mark.faults]

JobMaker = Callable[..., TrainingJob]
NODES = 2


def node_job(job: TrainingJob, pipeline: Path, settings: Settings) -> TrainingJob:
    """Return a job that names its base model as nodes resolve it."""
    base = job.config.base_model.model_copy(update={"source": str(pipeline)})
    config = job.config.model_copy(update={"base_model": base})
    digest = resolve(str(pipeline), settings=settings).digest
    return job.model_copy(update={"config": config, "base_model_digest": digest})


@contextmanager
def nodes(ref: str, settings: Settings, folder: Path) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Run the nodes of a TrainJob as processes; none outlives the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        **settings.variables(),
        "OMP_NUM_THREADS": "1",
        "PET_NNODES": str(NODES),
        "PET_NPROC_PER_NODE": "1",
        "PET_MASTER_ADDR": "127.0.0.1",
        "PET_MASTER_PORT": str(port),
    }
    folder.mkdir()
    processes = []
    for number in range(NODES):
        with (folder / f"node-{number}.log").open("wb") as log:
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "boothline.trainjob.node", ref],
                    env={**environment, "PET_NODE_RANK": str(number)},
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
    try:
        yield processes
    finally:
        for process in processes:
            end(process)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Kill a node with everything in it, as the loss of its machine would."""
    family = [process.pid]
    if process.poll() is None:
        family += [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    for pid in family:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def events_of(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "node-0.log").read_text().splitlines(keepends=True)
    marked = [line for line in lines if line.startswith(EVENT_MARK) and line.endswith("\n")]
    return [json.loads(line.removeprefix(EVENT_MARK)) for line in marked]


def test_two_nodes_train_what_one_node_trains(
    make_job: JobMaker,
    tiny_pipeline: Path,
    digests: Callable[[str], dict[str, str]],
    store: Store,
    store_settings: Settings,
    tmp_path: Path,
) -> None:
    job = node_job(make_job("training/nodes", world_size=2), tiny_pipeline, store_settings)
    ref = str(send_job(store, job))
    with nodes(ref, store_settings, tmp_path / "logs") as processes:
        codes = [process.wait(timeout=120) for process in processes]
    assert codes == [0, 0], (tmp_path / "logs" / "node-0.log").read_text()
    assert receive_result(store, job, place=result_place(ref))
    result = result_of(job)
    steps = [event for event in events_of(tmp_path / "logs") if event["event"] == "step"]
    assert [event["step"] for event in steps] == list(range(1, 7))

    alone = node_job(make_job("training/alone", world_size=2), tiny_pipeline, store_settings)
    expected = train(alone, settings=store_settings)
    assert digests(result.final_state) == digests(expected.final_state)
    assert result.curve.read_bytes() == expected.curve.read_bytes()


def test_lost_node_costs_no_step_and_changes_no_weight(
    make_job: JobMaker,
    run_here: Callable[..., dict[str, Any]],
    tiny_pipeline: Path,
    store: Store,
    store_settings: Settings,
    tmp_path: Path,
) -> None:
    settings = {"num_steps": 20, "learning_rate": 1e-4}
    job = node_job(
        make_job("training/lost", world_size=2, **settings), tiny_pipeline, store_settings
    )
    ref = str(send_job(store, job))
    with nodes(ref, store_settings, tmp_path / "first") as processes:
        deadline = time.monotonic() + 120
        while not any(event.get("step", 0) >= 6 for event in events_of(tmp_path / "first")):
            assert time.monotonic() < deadline, (tmp_path / "first" / "node-0.log").read_text()
            assert processes[0].poll() is None
        end(processes[1])
        killed = time.monotonic()
        assert processes[0].wait(timeout=60) != 0
        assert time.monotonic() - killed < 30
    assert store.manifests("training/lost/")
    with nodes(ref, store_settings, tmp_path / "second") as processes:
        assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert receive_result(store, job, place=result_place(ref))
    resumed = [event for event in events_of(tmp_path / "second") if event["event"] == "start"]
    assert resumed[0]["step"] > 0

    single = node_job(make_job("training/single", **settings), tiny_pipeline, store_settings)
    alone = run_here(single)
    one = load_file(store.fetch(alone["final_state"], tmp_path / "one") / "unet.safetensors")
    final = result_of(job).final_state
    two = load_file(store.fetch(final, tmp_path / "two") / "unet.safetensors")
    assert max(float((one[name] - two[name]).abs().max()) for name in one) <= 1e-6
