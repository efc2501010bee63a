"""Progress events: written as lines, throttled, read back in order."""

from pathlib import Path

import pytest

from boothline.progress import Progress, label_of, read_events


def make_progress(run_dir: Path, times: list[float], *, shard: int | None = None) -> Progress:
    return Progress(
        "train", shard=shard, run_dir=run_dir, clock=iter(times).__next__, min_interval_seconds=1.0
    )


def test_update_closer_than_the_interval_is_dropped_but_not_the_last(tmp_path: Path) -> None:
    progress = make_progress(tmp_path, [10.0, 10.5, 11.5, 11.6])
    for done in (1, 2, 3, 4):
        progress.update(done, 4, unit="steps")
    assert [event.done for event in read_events(tmp_path)] == [1, 3, 4]


def test_update_of_a_pod_writes_a_line_every_two_seconds(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    progress = Progress("train", clock=iter([10.0, 11.9, 12.0, 12.1]).__next__)
    for done in (1, 2, 3, 4):
        progress.update(done, 4, unit="steps")
    assert [record.message for record in caplog.records] == [
        "train progress 1/4 steps",
        "train progress 3/4 steps",
        "train progress 4/4 steps",
    ]


def test_update_that_no_later_call_repeats_is_not_dropped(tmp_path: Path) -> None:
    progress = make_progress(tmp_path, [10.0, 10.1, 10.2, 10.3])
    progress.update(0, 4, unit="steps", note="loading models", once=True)
    progress.update(2, 4, unit="steps", note="going on after step 2", once=True)
    progress.update(3, 4, unit="steps", note="loss 0.1")
    assert [event.note for event in read_events(tmp_path)] == [
        "loading models",
        "going on after step 2",
    ]


def test_read_events_torn_last_line_is_left_out(tmp_path: Path) -> None:
    progress = make_progress(tmp_path, [1.0])
    progress.update(1, 1, unit="steps", note="loss 0.1")
    path = tmp_path / "events" / "train.jsonl"
    path.write_text(path.read_text() + '{"time": 2.0, "st')
    (event,) = read_events(tmp_path)
    assert event.note == "loss 0.1"


def test_read_events_of_shards_are_merged_by_time(tmp_path: Path) -> None:
    make_progress(tmp_path, [2.0], shard=1).update(1, 1, unit="images")
    make_progress(tmp_path, [1.0], shard=0).update(1, 1, unit="images")
    assert [event.shard for event in read_events(tmp_path)] == [0, 1]
    assert label_of("train", 1) == "train-1"
