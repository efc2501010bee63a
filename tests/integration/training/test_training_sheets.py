"""Sample sheets over the steps of a training: which steps have one, and what it shows."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from boothline.training.job import TrainingJob

pytestmark = pytest.mark.services

JobMaker = Callable[..., TrainingJob]
Runner = Callable[..., dict[str, Any]]


def sheets_of(job: TrainingJob) -> dict[int, bytes]:
    """Return the pixels of each sheet that the events of a training name, by step."""
    lines = (job.folder / "events.jsonl").read_text().splitlines()
    events = [event for event in map(json.loads, lines) if event["event"] == "sheet"]
    return {event["step"]: Image.open(event["path"]).tobytes() for event in events}


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
