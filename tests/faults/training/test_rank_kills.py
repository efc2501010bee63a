"""Ranks that are killed at many places, and a preemption behind a slow store."""

import json
import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from fault_proxy import FaultProxy
from tiny_jobs import training_job

from boothline.errors import InterruptedRunError, TrainingError
from boothline.settings import Settings
from boothline.store import Store
from boothline.training.job import TrainingJob
from boothline.training.launch import train

pytestmark = [pytest.mark.services, pytest.mark.faults]

NUM_KILLS = int(os.environ.get("BOOTHLINE_RANK_KILLS", "20"))
STEPS_PER_KILL = 4
Note = Callable[[str, str], None]
MakeJob = Callable[..., TrainingJob]


@pytest.fixture
def make_job(tmp_path: Path, tiny_pipeline: Path) -> MakeJob:
    """Return a maker of jobs that share their pictures; each has a folder of its own."""
    made: list[Path] = []
    described: dict[int, dict[str, Any]] = {}

    def make(states: str, *, world_size: int, **training: Any) -> TrainingJob:
        if world_size not in described:
            described[world_size] = training_job(
                tmp_path / f"data-{world_size}", tiny_pipeline, world_size=world_size, **training
            )
        folder = tmp_path / f"job-{len(made)}"
        folder.mkdir()
        made.append(folder)
        value = {**described[world_size], "states": states, "folder": str(folder)}
        return TrainingJob.model_validate(value)

    return make


class Killer:
    """Kills one rank at a place of a training that a seed decides."""

    def __init__(self, job: TrainingJob, *, seed: int) -> None:
        draws = random.Random(seed)
        self._job, self._victim = job, draws.randrange(job.world_size)
        self._reports_left = draws.randrange(1, STEPS_PER_KILL)
        self.killed_at: float | None = None

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event["event"] != "step" or self.killed_at is not None:
            return
        self._reports_left -= 1
        if self._reports_left <= 0:
            pid = int((self._job.folder / f"process-{self._victim}").read_text())
            self.killed_at = time.monotonic()
            psutil.Process(pid).kill()


def digests(store: Store, ref: str) -> dict[str, str]:
    return {entry.path: entry.sha256 for entry in store.read(ref).files}


def test_rank_killed_at_many_places_resumes_bit_for_bit(
    make_job: MakeJob, store: Store, store_settings: Settings, measured: Note
) -> None:
    settings = {"num_steps": STEPS_PER_KILL * (NUM_KILLS + 2)}
    whole = train(make_job("training/whole", world_size=2, **settings), settings=store_settings)
    longest, num_kills = 0.0, 0
    result = None
    for seed in range(NUM_KILLS):
        job = make_job("training/cut", world_size=2, **settings)
        killer = Killer(job, seed=seed)
        try:
            result = train(job, settings=store_settings, on_event=killer)
        except TrainingError:
            assert killer.killed_at is not None
            longest = max(longest, time.monotonic() - killer.killed_at)
            num_kills += 1
        assert not [p for p in psutil.Process().children(recursive=True) if "elastic" in p.name()]
    if result is None:
        last = make_job("training/cut", world_size=2, **settings)
        result = train(last, settings=store_settings)
    assert num_kills >= NUM_KILLS * 3 // 4
    assert longest < 30
    assert digests(store, result.final_state) == digests(store, whole.final_state)
    measured(
        "kill -9 of one DDP rank",
        f"{num_kills} kills: the others ended within {longest:.1f} s, resume bit-identical",
    )


def test_sigterm_behind_a_slow_store_commits_a_state_in_time(
    make_job: MakeJob, store: Store, store_settings: Settings, measured: Note
) -> None:
    job = make_job("training/job", world_size=1, num_steps=100_000)
    checkpoints = job.config.checkpoints.model_copy(update={"every_steps": 90_000})
    job = job.model_copy(
        update={"config": job.config.model_copy(update={"checkpoints": checkpoints})}
    )
    stopped: list[float] = []
    with FaultProxy(store_settings.s3_endpoint) as proxy:

        def listen(event: Mapping[str, Any]) -> None:
            if event["event"] == "step" and not stopped:
                proxy.delay_seconds = 0.5
                stopped.append(time.monotonic())
                os.kill(os.getpid(), signal.SIGTERM)

        slow = store_settings.model_copy(update={"s3_endpoint": proxy.url})
        with pytest.raises(InterruptedRunError, match="its state is in the store") as caught:
            train(job, settings=slow, on_event=listen)
    seconds = time.monotonic() - stopped[0]
    assert seconds < 25
    assert "resume" in caught.value.remedy
    assert caught.value.exit_code == 130
    (path,) = store.manifests("training/job/")
    ref = store.find(path)
    assert ref is not None
    assert json.loads(store.read_bytes(ref, "state.json"))["step"] >= 1
    measured("SIGTERM", f"state committed after {seconds:.1f} s at 500 ms latency, exit 130")
