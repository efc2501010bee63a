"""A rank that does not answer is seen in the live table, which keeps the steps that were done."""

from pathlib import Path
from types import SimpleNamespace

from boothline.components.train.step import _Reporter
from boothline.config import RunConfig
from boothline.progress import Progress, read_events
from boothline.tracking import MemoryTracker


def test_silent_rank_is_a_note_beside_the_steps_done(tmp_path: Path) -> None:
    progress = Progress("train", run_dir=tmp_path)
    context = SimpleNamespace(progress=progress, tracker=MemoryTracker(), config=RunConfig())
    report = _Reporter(context)
    report({"event": "step", "step": 7, "instance_loss": 0.5, "prior_loss": 0.0})
    report({"event": "silent", "text": "no step for 60 s: rank 1 does not answer"})
    last = read_events(tmp_path)[-1]
    assert (last.done, last.unit) == (7, "steps")
    assert last.note == "no step for 60 s: rank 1 does not answer"
