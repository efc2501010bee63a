import io
import sys
from io import StringIO
from types import ModuleType, SimpleNamespace

import pytest
from rich.console import Console

from boothline.launch.local.display import (
    LiveDisplay,
    PlainDisplay,
    duration,
    run_line,
    status_of,
    table_of,
)
from boothline.launch.local.events import EventTail, RunProgress
from boothline.metering import gpu_use
from boothline.progress import Event

STEPS = ("generate_prior", "train")
T0 = 1000.0


def event(step: str, kind: str, time: float, **values: object) -> Event:
    return Event.model_validate({"step": step, "kind": kind, "time": T0 + time, **values})


def progress_of(*events: Event) -> RunProgress:
    progress = RunProgress(STEPS)
    for item in events:
        progress.apply(item)
    return progress


def test_progress_merges_shards_into_sums_and_the_slowest_end():
    progress = progress_of(
        event("generate_prior", "started", 0, shard=0),
        event("generate_prior", "started", 1, shard=1),
        event("generate_prior", "progress", 2, shard=0, done=2, total=8, unit="images"),
        event("generate_prior", "progress", 2, shard=1, done=1, total=8, unit="images"),
        event("generate_prior", "progress", 4, shard=0, done=6, total=8, unit="images"),
        event("generate_prior", "progress", 4, shard=1, done=3, total=8, unit="images"),
    )

    step = progress.steps["generate_prior"]
    assert (step.done, step.total, step.unit, step.state) == (9, 16, "images", "running")
    assert step.seconds(now=T0 + 6) == 6
    assert step.seconds_left(now=T0 + 5) == 4  # shard 1: 5 images at 1 a second, from T0 + 4


def test_progress_with_one_report_knows_no_time_left():
    progress = progress_of(
        event("train", "started", 0), event("train", "progress", 1, done=1, total=9, unit="steps")
    )

    assert progress.steps["train"].seconds_left(T0 + 2) is None


def test_progress_is_reused_only_when_every_shard_was():
    both = progress_of(
        event("generate_prior", "done", 1, shard=0, reused=True),
        event("generate_prior", "done", 1, shard=1, reused=True),
    )
    one = progress_of(
        event("generate_prior", "done", 1, shard=0, reused=True),
        event("generate_prior", "done", 1, shard=1, reused=False),
    )

    assert both.steps["generate_prior"].reused
    assert not one.steps["generate_prior"].reused


def test_progress_first_failure_prefers_a_cause_over_an_interruption():
    progress = progress_of(
        event("generate_prior", "failed", 1, shard=0, error="stopped", exit_code=130),
        event("train", "failed", 2, error="no space", exit_code=5),
    )

    assert progress.first_failure().error == "no space"


def test_progress_remark_outlasts_the_step_in_the_table_and_among_the_lines():
    progress = progress_of(
        event("train", "started", 0),
        event("train", "remark", 1, remark="1 of 4 pictures left out: a.png is empty"),
        event("train", "progress", 2, done=4, total=4, unit="images", note="passing"),
        event("train", "done", 3),
    )
    console = Console(record=True, width=200, file=StringIO())
    PlainDisplay(console, clock=lambda: T0).show(progress)
    console.print(table_of(progress, T0))
    said = console.export_text()
    assert said.count("1 of 4 pictures left out: a.png is empty") == 2
    assert "passing" not in said


def test_progress_of_started_step_without_end_is_unfinished():
    progress = progress_of(
        event("generate_prior", "started", 0, shard=1),
        event("train", "started", 0),
        event("train", "failed", 1, error="x"),
    )

    assert progress.unfinished() == ["generate_prior-1"]


def test_progress_of_restarted_step_forgets_its_failure():
    progress = progress_of(
        event("train", "started", 0),
        event("train", "failed", 1, error="x"),
        event("train", "started", 2),
    )

    assert progress.first_failure() is None
    assert progress.steps["train"].state == "running"


def test_event_tail_reads_each_event_once_and_waits_for_torn_lines(tmp_path):
    folder = tmp_path / "events"
    folder.mkdir()
    path = folder / "train.jsonl"
    old, new = event("train", "started", 5), event("train", "started", 15)
    torn = event("train", "done", 16).model_dump_json()
    path.write_text(f"{old.model_dump_json()}\n{new.model_dump_json()}\n{torn[:20]}")
    tail = EventTail(tmp_path, since=T0 + 10)

    assert tail.read() == [new]
    assert tail.read() == []
    path.write_text(path.read_text() + torn[20:] + "\n")
    assert [item.kind for item in tail.read()] == ["done"]


def test_event_tail_of_run_without_events_is_empty(tmp_path):
    assert EventTail(tmp_path, since=0).read() == []


def test_duration_reads_like_a_clock():
    assert [duration(value) for value in (None, 7.13, 65, 3723)] == ["", "7.1 s", "1:05", "1:02:03"]


def rendered(progress: RunProgress, now: float, *, width: int = 120) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table_of(progress, now, width=width))
    return capture.get()


def test_table_shows_counts_note_and_time_left_of_running_steps():
    text = rendered(
        progress_of(
            event("generate_prior", "done", 2, shard=0, reused=True),
            event("train", "started", 0),
            event("train", "progress", 1, done=10, total=100, unit="steps", note="loss 0.9"),
            event("train", "progress", 2, done=20, total=100, unit="steps", note="loss 0.5"),
        ),
        now=T0 + 3,
    )

    assert "reused" in text
    train = next(line for line in text.splitlines() if line.startswith("train"))
    for part in ("running", "20/100 steps", "loss 0.5", "3.0 s", "7.0 s"):
        assert part in train


def test_note_names_the_trial_whose_speed_it_is_while_several_run():
    progress = RunProgress(["train"])
    for trial in (0, 1):
        progress.apply(event("train", "started", 0, shard=trial))
        note = f"loss 0.{trial}, 0.6 img/s"
        more = {"done": 5, "total": 10, "unit": "steps", "note": note}
        progress.apply(event("train", "progress", 1 + trial, shard=trial, **more))
    assert progress.steps["train"].note == "train-1: loss 0.1, 0.6 img/s"
    progress.apply(event("train", "done", 3, shard=0))
    progress.apply(event("train", "progress", 4, shard=1, **more))
    assert progress.steps["train"].note == "loss 0.1, 0.6 img/s"


def test_step_that_was_stopped_before_it_reported_is_interrupted_and_saved_nothing():
    progress = progress_of(
        event("generate_prior", "started", 0),
        event("generate_prior", "done", 1),
        event("train", "started", 1),
        event("train", "progress", 2, done=5, total=10, unit="steps"),
    )
    progress.stop(T0 + 4)
    assert [status_of(step) for step in progress.steps.values()] == ["done", "interrupted"]
    assert progress.steps["train"].seconds(now=T0 + 9) == 3
    assert progress.saved() == ""
    progress.apply(event("train", "failed", 5, exit_code=130))
    assert progress.saved() == "training at step 5 of 10"


def test_table_on_narrow_terminal_keeps_the_note_and_the_time_left_of_the_run():
    note = "loss 0.0412, 12.3 images/s"
    text = rendered(
        progress_of(
            event("train", "started", 0),
            event("train", "progress", 1, done=61, total=150, unit="steps", note="x"),
            event("train", "progress", 2, done=62, total=150, unit="steps", note=note),
        ),
        now=T0 + 3,
        width=80,
    )

    train = next(line for line in text.splitlines() if line.startswith("train"))
    for part in ("running", "62/150 steps", note, "3.0 s"):
        assert part in train
    assert "run" in text.splitlines()[-1]
    assert "3.0 s, at least 1:27 left" in " ".join(text.splitlines()[-1].split())
    assert len(text.splitlines()) == 2 + len(STEPS)


def test_run_line_counts_what_an_earlier_run_took_for_steps_that_wait():
    events = (
        event("generate_prior", "started", 0, shard=0),
        event("generate_prior", "progress", 1, shard=0, done=1, total=5, unit="images"),
        event("generate_prior", "progress", 2, shard=0, done=2, total=5, unit="images"),
    )
    progress = RunProgress(STEPS, usual={"train": 60.0})
    for item in events:
        progress.apply(item)
    assert run_line(progress, T0 + 2) == "2.0 s, about 1:03 left"
    progress.apply(event("generate_prior", "done", 5, shard=0))
    progress.apply(event("train", "started", 5))
    progress.apply(event("train", "done", 9))
    assert run_line(progress, T0 + 100) == "9.0 s"


def test_time_of_the_run_passes_between_steps_and_stands_when_the_last_one_ended():
    between = progress_of(
        event("generate_prior", "started", 0), event("generate_prior", "done", 10)
    )
    ended = progress_of(event("train", "started", 0), event("train", "done", 10))

    assert between.seconds(T0 + 40) == 40
    assert ended.seconds(T0 + 40) == 10
    assert progress_of().seconds(T0) == 0


def test_interrupted_step_is_called_so_and_says_what_is_saved():
    progress = progress_of(
        event("train", "started", 0),
        event("train", "progress", 1, done=50, total=100, unit="steps"),
        event("train", "failed", 2, error="stopped", exit_code=130),
    )
    shown = rendered(progress, T0 + 2)
    assert "interrupted" in shown
    assert "left" not in shown.splitlines()[-1]
    assert progress.saved() == "training at step 50 of 100"
    progress.apply(event("train", "started", 3))
    assert progress.saved() == ""


def test_resumed_step_shows_where_it_was_until_it_reports():
    earlier = [event("train", "progress", 1, done=50, total=100, unit="steps")]
    progress = RunProgress(STEPS, earlier=earlier)
    progress.apply(event("train", "started", 10))
    assert progress.steps["train"].note == "resuming; it was at step 50"
    progress.apply(event("train", "progress", 12, done=51, total=100, unit="steps"))
    assert progress.steps["train"].note == ""


def test_live_display_on_a_terminal_that_became_narrow_erases_the_wrapped_lines():
    console = Console(width=120, height=30, force_terminal=True, color_system=None)
    progress = progress_of(event("train", "started", 0), event("train", "remark", 1, remark="x"))
    with console.capture() as capture, LiveDisplay(console, clock=lambda: T0 + 3) as display:
        display.show(progress)
        console.width = 40
        display.show(progress)

    written = capture.get()
    first = written.partition("\x1b[2K")[0].splitlines()
    assert [line.split()[0] for line in first[-2 - len(STEPS) :]][1:] == [*STEPS, "run"]
    # A head, two steps and the run, each on one line; the longest of them was wrapped.
    assert written.count("\x1b[1A") > 2 + len(STEPS)


class StandInNvml(ModuleType):
    """GPUs of 80 GB, the second of which is fuller; counts how often it is opened."""

    class NVMLError(Exception):
        """What NVML raises."""

    num_gpus = 2
    num_opened = 0

    def nvmlInit(self) -> None:
        self.num_opened += 1

    def nvmlShutdown(self) -> None:
        pass

    def nvmlDeviceGetCount(self) -> int:
        return self.num_gpus

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(used=(12 + 50 * handle) * 10**9, total=80 * 10**9)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(gpu=90 - 20 * handle)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(
    ("num_gpus", "cells"),
    [(0, ""), (1, "90 % 12.0 of 80.0 GB"), (2, "80 % of 2 fullest, 1: 62.0 of 80.0 GB")],
)
def test_live_display_shows_what_the_gpus_do(monkeypatch, width, num_gpus, cells):
    nvml = StandInNvml("pynvml")
    nvml.num_gpus = num_gpus
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    now = [T0]
    console = Console(width=width, height=20, force_terminal=True)
    progress = progress_of(event("train", "started", 0))
    with console.capture() as capture:
        display = LiveDisplay(console, clock=lambda: now[0], gpus=gpu_use)
        for second in range(5):
            now[0] = T0 + second
            display.show(progress)
    last = [line for line in capture.get().splitlines() if line.startswith("gpu ")]
    assert [" ".join(line.split()[1:]) for line in last[-1:]] == ([cells] if cells else [])
    # Every two seconds; a machine without GPUs is asked once.
    assert nvml.num_opened == (3 if num_gpus else 1)


def test_table_prints_markup_in_notes_as_text():
    text = rendered(
        progress_of(
            event("train", "started", 0),
            event("train", "progress", 1, done=1, total=2, unit="steps", note="[red]x[/red]"),
        ),
        now=T0 + 1,
    )

    assert "[red]x[/red]" in text


class Clock:
    now = T0

    def __call__(self) -> float:
        return self.now


def test_plain_display_speaks_at_changes_and_every_ten_seconds():
    console, clock = Console(width=120), Clock()
    display = PlainDisplay(console, clock=clock)
    progress = progress_of(event("train", "started", 0))
    with console.capture() as capture:
        for now in (0, 1, 9, 10.5, 12):
            clock.now = T0 + now
            display.show(progress)
        progress.apply(event("train", "done", 12))
        display.show(progress)
        display.show(progress)

    lines = [line for line in capture.get().splitlines() if line.startswith("train")]
    assert [line.split()[1] for line in lines] == ["running", "running", "done"]


def test_live_display_leaves_the_last_table_on_the_screen():
    console = Console(width=120, force_terminal=True)
    with console.capture() as capture, LiveDisplay(console, clock=lambda: T0 + 3) as display:
        display.show(progress_of(event("train", "started", 0)))
        display.show(progress_of(event("train", "started", 0), event("train", "done", 2)))

    assert "done" in capture.get().rpartition("train")[2]


def test_live_display_writes_each_table_at_once_so_that_nothing_flickers():
    written: list[str] = []

    class Terminal(io.StringIO):
        def write(self, text: str) -> int:
            written.append(text)
            return len(text)

    console = Console(file=Terminal(), width=100, height=30, force_terminal=True)
    with LiveDisplay(console, clock=lambda: T0 + 3) as display:
        display.show(progress_of(event("train", "started", 0)))
        del written[:]
        display.show(progress_of(event("train", "started", 0), event("train", "done", 2)))
        display.say("a word")

    first, second = (text for text in written if "train" in text)
    for text in (first, second):
        assert text.startswith("\x1b[2K")
        assert "run" in text.rpartition("train")[2]
    assert "a word" in second
