"""Sample sheets over the steps of a training: which steps have one, and what it shows."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from boothline.config.training import TrainingConfig
from boothline.training.job import TrainingJob
from boothline.training.sheets import is_due

pytestmark = pytest.mark.services

JobMaker = Callable[..., TrainingJob]
Runner = Callable[..., dict[str, Any]]


def sheets_of(job: TrainingJob) -> dict[int, bytes]:
    """Return the pixels of each sheet that the events of a training name, by step."""
    lines = (job.folder / "events.jsonl").read_text().splitlines()
    events = [event for event in map(json.loads, lines) if event["event"] == "sheet"]
    return {event["step"]: Image.open(event["path"]).tobytes() for event in events}


@pytest.mark.proves("F14/growing")
@pytest.mark.parametrize(("every", "steps"), [(5, [1, 2, 4, 5]), (0, [1, 2, 4, 5])])
def test_early_sheets_come_at_steps_that_double_until_the_others_begin(
    make_job: JobMaker, run_here: Runner, every: int, steps: list[int]
) -> None:
    job = make_job("training/early", num_steps=5, sample_every_steps=every, sample_early=True)
    run_here(job)
    assert list(sheets_of(job)) == steps


@pytest.mark.parametrize(
    ("every", "early", "steps"),
    [
        (6, True, [1, 2, 4, 6, 12, 18]),
        (6, False, [6, 12, 18]),
        (0, True, [1, 2, 4, 8, 16]),
        (0, False, []),
        (1, True, list(range(1, 20))),
    ],
)
def test_sheet_is_due_at_these_steps(every: int, early: bool, steps: list[int]) -> None:
    config = TrainingConfig(sample_every_steps=every, sample_early=early)
    assert [step for step in range(1, 20) if is_due(config, step)] == steps


@pytest.mark.proves("F14/samples")
def test_sheets_come_at_growing_steps_and_show_the_weights_of_theirs(
    make_job: JobMaker, run_here: Runner
) -> None:
    job = make_job("training/six", num_steps=6, sample_every_steps=2)
    run_here(job)
    sheets = sheets_of(job)
    assert list(sheets) == [2, 4, 6]
    assert len(set(sheets.values())) == 3
    assert (job.folder / "inputs.png").exists()
    for last in (2, 4):
        shorter = make_job(f"training/{last}", num_steps=last)
        run_here(shorter)
        assert sheets_of(shorter) == {last: sheets[last]}
