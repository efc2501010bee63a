"""Trains with ranks that are killed and nodes that are lost, all forked from one process.

Started as a program; reads a request as JSON from standard input, answers with JSON. All of it is
what a training does, but for the start of nodes and of torchrun's agents: these are forks here, not
new Pythons, so that a repeat costs no imports.
"""

import json
import multiprocessing
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil

from boothline import settings as environment
from boothline.diffusion.base_model import resolve
from boothline.errors import TrainingError
from boothline.settings import Settings
from boothline.store import Store
from boothline.training import elastic, launch
from boothline.training.job import TrainingJob
from boothline.trainjob import agent, node
from boothline.trainjob.files import as_event, receive_result, result_place, send_job

FORK = multiprocessing.get_context("fork")
CONFIGURATIONS = {
    "boothline.training.elastic": elastic.one_machine,
    "boothline.trainjob.agent": agent.one_node,
}
LOST_AT_STEP = 6


class ForkedAgent:
    """Stands in for the Popen of torchrun's agent: the same agent, forked from this process."""

    def __init__(
        self, command: list[str], *, env: Mapping[str, str], start_new_session: bool
    ) -> None:
        assert start_new_session
        self._process = FORK.Process(target=_run_agent, args=(command, dict(env)))
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("agent", timeout or 0.0)
        return self._process.exitcode

    def terminate(self) -> None:
        self._process.terminate()


def _run_agent(command: list[str], variables: dict[str, str]) -> None:
    """Do what `python -m AGENT PARENT JOB` does."""
    os.setsid()
    os.environ.clear()
    os.environ.update(variables)
    environment.current.cache_clear()
    module, parent, job_file = command[-3:]
    code = elastic.start(int(parent), Path(job_file), configure=CONFIGURATIONS[module])
    sys.stdout.flush()
    os._exit(code)


class Killer:
    """Kills one rank with SIGKILL at a moment that a seed decides.

    A quarter of the moments lie before the first step, the others within a few steps after it.
    """

    def __init__(self, job: TrainingJob, *, seed: int) -> None:
        draws = random.Random(seed)
        self._job, self._victim = job, draws.randrange(job.world_size)
        self._in_start = draws.random() < 0.25
        self._num_steps = draws.randrange(1, 5)
        self._delay_seconds = draws.uniform(0, 1.0 if self._in_start else 0.1)
        self._timer: threading.Timer | None = None
        self.killed_at: float | None = None

    def __call__(self, event: Mapping[str, Any]) -> None:
        self._num_steps -= event["event"] == "step"
        if self._timer is None and (self._in_start or self._num_steps <= 0):
            self._timer = threading.Timer(self._delay_seconds, self._kill)
            self._timer.start()

    def join(self) -> None:
        """Wait until the kill is over."""
        if self._timer is not None:
            self._timer.join()

    def _kill(self) -> None:
        named = self._job.folder / f"process-{self._victim}"
        while not (named.exists() and named.read_text()):
            time.sleep(0.01)
        self.killed_at = time.monotonic()
        psutil.Process(int(named.read_text())).kill()


def kills(job: dict[str, Any], settings: Settings, folder: Path, *, number: int) -> dict[str, Any]:
    """Kill a rank again and again until the training is through; compare with a whole one."""
    whole = launch.train(_job(job, "training/whole", folder / "whole"), settings=settings)
    seconds: list[float] = []
    left: list[int] = []
    while len(seconds) < number:
        cut = _job(job, "training/cut", folder / f"cut-{len(seconds)}")
        killer = Killer(cut, seed=len(seconds))
        try:
            launch.train(cut, settings=settings, on_event=killer)
        except TrainingError:
            seconds.append(time.monotonic() - (killer.killed_at or 0.0))
        else:
            break
        finally:
            killer.join()
        left += _still_running(cut)
    last = launch.train(_job(job, "training/cut", folder / "last"), settings=settings)
    store = Store.connect(settings)
    return {
        "num_kills": len(seconds),
        "longest_seconds": max(seconds, default=0.0),
        "left": left,
        "num_different": _num_different(store, last.final_state, whole.final_state),
    }


def _still_running(job: TrainingJob) -> list[int]:
    """Return the process ids of ranks that have not ended."""
    pids = [int(path.read_text()) for path in job.folder.glob("process-*")]
    alive = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    return [process.pid for process in alive if process.status() != psutil.STATUS_ZOMBIE]


class Node:
    """One node of a TrainJob, in a session of its own; told by the PET_* variables alone.

    Args:
        number: its rank among the two nodes.
        ref: the job that was sent.
        port: where the nodes meet.
        log: receives its output.
    """

    def __init__(self, number: int, *, ref: str, port: int, settings: Settings, log: Path) -> None:
        self.log = log
        variables = {
            "PET_NNODES": "2", "PET_NPROC_PER_NODE": "1", "PET_NODE_RANK": str(number),
            "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": str(port),
        }  # fmt: skip
        log.parent.mkdir(parents=True, exist_ok=True)
        self._process = FORK.Process(target=_run_node, args=(ref, variables, settings, log))
        self._process.start()

    def last_step(self) -> int:
        """Return the last step that it reported."""
        lines = self.log.read_text().splitlines(keepends=True) if self.log.exists() else []
        events = [event for line in lines if line.endswith("\n") and (event := as_event(line))]
        return max((int(event.get("step", 0)) for event in events), default=0)

    def end(self, *, patience_seconds: float) -> int | None:
        """Wait for its end and return its exit code; None if it does not come."""
        self._process.join(patience_seconds)
        return self._process.exitcode

    def lose(self) -> None:
        """Kill it with everything in it, as the loss of its machine would."""
        family = psutil.Process(self._process.pid)
        for process in (*family.children(recursive=True), family):
            process.kill()
        self._process.join()


def _run_node(ref: str, variables: dict[str, str], settings: Settings, log: Path) -> None:
    """Do what the pod of a TrainJob does."""
    os.setsid()
    with log.open("wb") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    os.environ |= variables
    node.environment = SimpleNamespace(current=lambda: settings)  # type: ignore[assignment]
    code = node.main([ref])
    sys.stdout.flush()
    os._exit(code)


def node_losses(job: dict[str, Any], settings: Settings, folder: Path) -> dict[str, Any]:
    """Lose one of two nodes, and go on with two, or with one; compare with a whole training."""
    store = Store.connect(settings)
    source = job["config"]["base_model"]["source"]
    job = {**job, "base_model_digest": resolve(source, settings=settings).digest}
    whole = launch.train(_job(job, "training/whole", folder / "whole"), settings=settings)
    seconds = []
    for states in ("two", "one"):
        own = _job(job, f"training/{states}", folder / states)
        ref = str(send_job(store, own))
        seconds.append(_lose_one(ref, settings, folder / f"{states}-lost"))
        if states == "two":
            _run_both(ref, settings, folder / "two-again")
            assert receive_result(store, own, place=result_place(ref))
            two = launch.result_of(own).final_state
    # Two passes where there were two ranks: as many pictures at once as the lost node had.
    training = {**job["config"]["training"], "num_processes": 1, "accumulation": 2}
    alone = {**job, "world_size": 1, "config": {**job["config"], "training": training}}
    one = launch.train(_job(alone, "training/one", folder / "alone"), settings=settings)
    return {
        "longest_seconds": max(seconds),
        "num_different": _num_different(store, two, whole.final_state),
        "one_differs": _difference(store, one.final_state, whole.final_state, folder),
    }


def _start_both(ref: str, settings: Settings, folder: Path) -> list[Node]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return [
        Node(number, ref=ref, port=port, settings=settings, log=folder / f"node-{number}.log")
        for number in range(2)
    ]


def _run_both(ref: str, settings: Settings, folder: Path) -> None:
    """Run both nodes to their good end."""
    for each in _start_both(ref, settings, folder):
        assert each.end(patience_seconds=120) == 0, each.log.read_text()


def _lose_one(ref: str, settings: Settings, folder: Path) -> float:
    """Lose the second node in the middle; return how long the first took to end."""
    first, second = _start_both(ref, settings, folder)
    while first.last_step() < LOST_AT_STEP:
        assert first.end(patience_seconds=0.02) is None, first.log.read_text()
    second.lose()
    lost_at = time.monotonic()
    assert first.end(patience_seconds=60) not in (None, 0), first.log.read_text()
    return time.monotonic() - lost_at


def _difference(store: Store, ref: str, other: str, folder: Path) -> float:
    """Return the largest absolute difference between the weights of two states."""
    from safetensors.numpy import load_file

    found = 0.0
    names = [entry.path for entry in store.read(ref).files if entry.path.endswith(".safetensors")]
    for name in (name for name in names if not name.startswith("optimizer")):
        ours, theirs = (
            load_file(store.fetch(each, folder / f"fetched-{number}") / name)
            for number, each in enumerate((ref, other))
        )
        assert ours.keys() == theirs.keys()
        found = max(found, *(float(abs(ours[key] - theirs[key]).max()) for key in ours))
    return found


def _job(described: dict[str, Any], states: str, folder: Path) -> TrainingJob:
    folder.mkdir(parents=True)
    return TrainingJob.model_validate({**described, "states": states, "folder": str(folder)})


def _num_different(store: Store, ref: str, other: str) -> int:
    """Return how many files of two states have other digests, or are in one alone."""
    ours, theirs = (
        {(entry.path, entry.sha256) for entry in store.read(each).files} for each in (ref, other)
    )
    return len(ours ^ theirs)


def main() -> None:
    """Answer the request."""
    request = json.load(sys.stdin)
    settings = Settings.model_validate(request["settings"])
    stand_in = SimpleNamespace(Popen=ForkedAgent, TimeoutExpired=subprocess.TimeoutExpired)
    launch.subprocess = stand_in  # type: ignore[assignment]
    launch.POLL_SECONDS = 0.02
    folder = Path(request["folder"])
    if request["scenario"] == "kills":
        answer = kills(request["job"], settings, folder, number=request["number"])
    else:
        answer = node_losses(request["job"], settings, folder)
    sys.stdout.write("\n" + json.dumps(answer))


if __name__ == "__main__":
    main()
