"""Ranks that are killed at many places, and a preemption behind a slow store."""

import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from fault_proxy import FaultProxy
from runner_programs import ask
from tiny_jobs import training_job

from boothline.errors import InterruptedRunError
from boothline.settings import Settings
from boothline.store import Store
from boothline.training.job import TrainingJob
from boothline.training.launch import train

pytestmark = [pytest.mark.services, pytest.mark.faults]

NUM_KILLS = int(os.environ.get("BOOTHLINE_RANK_KILLS", "20"))
STEPS_PER_KILL = 8
Note = Callable[[str, str], None]


@pytest.mark.proves("F42/two_ranks")
def test_rank_killed_at_many_places_resumes_bit_for_bit(
    store_settings: Settings, tiny_pipeline: Path, tmp_path: Path, measured: Note
) -> None:
    job = training_job(
        tmp_path / "data", tiny_pipeline, world_size=2, num_steps=STEPS_PER_KILL * NUM_KILLS
    )
    result = ask(
        "warm_ranks", store_settings, scenario="kills", folder=str(tmp_path / "jobs"), job=job,
        number=NUM_KILLS,
    )  # fmt: skip
    assert result["num_kills"] == NUM_KILLS
    assert result["left"] == []
    assert result["longest_seconds"] < 30
    assert result["num_different"] == 0
    measured(
        "kill -9 of one DDP rank",
        f"{result['num_kills']} kills: the others ended within"
        f" {result['longest_seconds']:.1f} s, {result['num_different']} files differ after the"
        " resume",
    )


@pytest.mark.proves("F42/three_ranks")
def test_one_of_three_ranks_killed_resumes_bit_for_bit(
    store_settings: Settings, tiny_pipeline: Path, tmp_path: Path
) -> None:
    """With more than two ranks the order of additions depends on how DDP cuts its buckets."""
    job = training_job(
        tmp_path / "data", tiny_pipeline, world_size=3, num_steps=3 * STEPS_PER_KILL, batch_size=3
    )
    result = ask(
        "warm_ranks", store_settings, scenario="kills", folder=str(tmp_path / "jobs"), job=job,
        number=3,
    )  # fmt: skip
    assert result["num_kills"] == 3
    assert result["left"] == []
    assert result["num_different"] == 0


def test_sigterm_behind_a_slow_store_commits_a_state_in_time(
    store: Store, store_settings: Settings, proxy: FaultProxy, tiny_pipeline: Path, tmp_path: Path,
    measured: Note,
) -> None:  # fmt: skip
    described = training_job(tmp_path / "data", tiny_pipeline, num_steps=100_000)
    described["config"]["checkpoints"]["every_steps"] = 90_000
    job = TrainingJob.model_validate({**described, "folder": str(tmp_path)})
    stopped: list[float] = []

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
    measured(
        "SIGTERM",
        f"state committed after {seconds:.1f} s, {proxy.delay_seconds:.1f} s latency, exit code"
        f" {caught.value.exit_code}",
    )
