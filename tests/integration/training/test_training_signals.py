"""SIGUSR1 to a training under torchrun: it saves a state at once and trains on."""

import json
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from boothline.settings import Settings
from boothline.store import Store
from boothline.training.job import TrainingJob
from boothline.training.launch import train

pytestmark = [pytest.mark.services, pytest.mark.slow]

NUM_STEPS = 40
JobMaker = Callable[..., TrainingJob]


def job_without_states(make_job: JobMaker, states: str) -> TrainingJob:
    """Return a job of two ranks that saves nothing before its end by itself."""
    job = make_job(states, world_size=2, num_steps=NUM_STEPS)
    checkpoints = job.config.checkpoints.model_copy(update={"every_steps": 10 * NUM_STEPS})
    config = job.config.model_copy(update={"checkpoints": checkpoints})
    return job.model_copy(update={"config": config})


@pytest.mark.proves("F20/sigusr1")
def test_sigusr1_commits_a_state_and_the_training_ends_with_the_same_bits(
    make_job: JobMaker,
    store: Store,
    store_settings: Settings,
    digests: Callable[[str], dict[str, str]],
) -> None:
    whole = job_without_states(make_job, "training/whole")
    expected = train(whole, settings=store_settings)
    asked: list[int] = []

    def ask(event: Mapping[str, Any]) -> None:
        if event["event"] == "step" and not asked:
            asked.append(event["step"])
            os.kill(os.getpid(), signal.SIGUSR1)

    job = job_without_states(make_job, "training/asked")
    result = train(job, settings=store_settings, on_event=ask)
    assert store.manifests("training/whole/") == [f"training/whole/step-{NUM_STEPS:06d}"]
    saved, last = store.manifests("training/asked/")
    assert asked[0] <= int(saved.rsplit("-", 1)[-1]) < NUM_STEPS
    assert last == f"training/asked/step-{NUM_STEPS:06d}"
    assert digests(result.final_state) == digests(expected.final_state)
    events = [json.loads(line) for line in (job.folder / "events.jsonl").read_text().splitlines()]
    steps = [event["step"] for event in events if event["event"] == "step"]
    assert steps == list(range(1, NUM_STEPS + 1))
