"""`make bench-gpu` around its programs: time, table, JSON, and what could not be measured."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import one_gpu
from benchmarks.contest import OURS, PEER, Contest, Findings
from benchmarks.gpu_sides import GpuTask
from benchmarks.one_gpu import Budget, main, row_of, shares_of, took_smaller_passes
from benchmarks.turns import Answer, NotMeasuredError, Side
from boothline.training.job import EVENTS_FILE
from boothline.training.reporting import EventLog

GIB = 2**30
PROGRAM = """
import sys, time
from types import SimpleNamespace
from benchmarks.turns import Turns, connection_of

role, key, failing, connection = sys.argv[1:]
theirs = connection_of(connection)
if role == "prepare":
    theirs.send({"device": "H-0", "total_bytes": 10**15, "flops_per_second": 1e9, "side": 64})
    while True:
        if theirs.recv() == failing:
            raise MemoryError("CUDA out of memory. Tried to allocate 20 GiB.")
        theirs.send(1000)
turns = Turns(theirs, device=SimpleNamespace(type="cpu"))
turns.wait()
while True:
    if f"{role}-{key}" == failing:
        raise RuntimeError("broken")
    time.sleep(0.001)
    turns()
"""


def turn(*, units: int, seconds: float, peak: int = GIB) -> Answer:
    return Answer(
        units=units, seconds=seconds, flops=0, peak_bytes=peak, steps_peak_bytes=peak,
        resident_bytes=peak,
    )  # fmt: skip


def test_budget_gives_a_part_half_as_much_again_as_its_share_of_what_is_left() -> None:
    now = [0.0]
    budget = Budget(1000, {"first": 1, "second": 3}, clock=lambda: now[0])
    assert budget.until("first") == pytest.approx(375)
    now[0] = 100.0
    assert budget.until("second") == 1000


def test_budget_gives_a_part_a_minute_where_there_is_one() -> None:
    now = [0.0]
    budget = Budget(100, {"first": 1, "second": 3, "third": 90}, clock=lambda: now[0])
    assert budget.until("first") == 60
    now[0] = 60.0
    assert budget.until("second") == 100


def test_budget_that_is_spent_gives_nothing() -> None:
    now = [0.0]
    budget = Budget(100, {"first": 1, "second": 3}, clock=lambda: now[0])
    budget.until("first")
    now[0] = 96.0
    with pytest.raises(NotMeasuredError, match="out of time"):
        budget.until("second")


def test_shares_are_those_of_the_models_asked_for() -> None:
    assert set(shares_of(["flux"])) == {"prepare", "make flux", "train flux"}


def test_row_has_rates_memory_and_shares_of_the_ceiling() -> None:
    ours = Findings(turns=[turn(units=8, seconds=2.0, peak=3 * GIB)], flops=100.0)
    peer = Findings(turns=[turn(units=2, seconds=1.0, peak=6 * GIB)], flops=200.0)
    contest = Contest(sides={OURS: ours, PEER: peer}, ratios=[1.0, 2.0, 4.0])
    assert row_of(contest, ceiling=1000.0) == {
        "ours": 4.0, "peer": 2.0, "ratio": 2.0, "lowest": 1.0, "highest": 4.0,
        "ours GiB": 3.0, "peer GiB": 6.0, "ours %": 40.0, "peer %": 40.0, "not measured": "",
    }  # fmt: skip


def test_row_of_what_was_not_measured_is_empty_and_says_why() -> None:
    row = row_of(Contest(sides={OURS: Findings(reason="out of time")}), ceiling=None)
    assert row.pop("not measured") == "ours: out of time"
    assert set(row.values()) == {None}


def test_bench_without_a_gpu_names_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert "needs a CUDA device" in error
    assert "--size toy" in error


def test_passes_that_memory_made_smaller_are_noticed(tmp_path: Path) -> None:
    assert not took_smaller_passes(tmp_path)
    log = EventLog(tmp_path / EVENTS_FILE, images_per_step=2)
    log.write("start", {"step": 0})
    assert not took_smaller_passes(tmp_path)
    log.write("smaller", {"step": 1, "pass_size": 2})
    assert took_smaller_passes(tmp_path)


@pytest.fixture
def bench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """Return a function that runs the command with small programs in the place of the real ones."""

    def run(*options: str, failing: str = "none") -> dict[str, Any]:
        def start(self: object, role: str, task: GpuTask) -> Side:
            if role == failing == "train-ours":
                task.job.mkdir()
                EventLog(task.job / EVENTS_FILE, images_per_step=2).write("smaller", {})
            command = [sys.executable, "-c", PROGRAM, role, task.key, failing]
            log = tmp_path / f"{role}-{task.key}.log"
            return Side(command, environment=dict(os.environ), log=log)

        monkeypatch.setattr(one_gpu.Bench, "_start", start)
        output = tmp_path / "kept" / "bench.json"
        main(
            ["--size", "toy", "--minutes", "20", "--pairs", "1", "--output", str(output),
             "--scratch", str(tmp_path), *options]
        )  # fmt: skip
        printed = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert printed == json.loads(output.read_text())
        assert not list(tmp_path.glob("boothline-bench-*"))
        return printed

    return run


def test_bench_measures_each_model_and_names_the_peer_that_is_missing(
    bench: Callable[..., dict[str, Any]],
) -> None:
    kept = bench()
    rows = {(row["model"], row["unit"]): row for row in kept["rows"]}
    assert list(rows) == [
        ("sd15", "steps/s"), ("sd15", "pictures/s"), ("sdxl", "steps/s"), ("sdxl", "pictures/s"),
        ("flux", "steps/s"),
    ]  # fmt: skip
    assert all(row["ours"] > 0 for row in rows.values())
    assert rows["sd15", "pictures/s"]["ratio"] > 0
    assert rows["sd15", "pictures/s"]["not measured"] == ""
    assert "no checkout of diffusers" in rows["flux", "steps/s"]["not measured"]
    assert kept["device"] == "H-0"
    assert "one H-0" in kept["title"]


def test_bench_of_a_model_that_does_not_fit_measures_the_others(
    bench: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    rows = bench("--models", "sd15", "sdxl", "--peer", str(tmp_path), failing="sd15")["rows"]
    for row in rows[:2]:
        assert row["ours"] is None
        assert "ours: the model was not made: out of memory: MemoryError" in row["not measured"]
        assert "peer: the model was not made" in row["not measured"]
    for row in rows[2:]:
        assert row["ratio"] > 0
        assert not row["not measured"]


def test_bench_keeps_what_it_has_after_each_part(
    bench: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, seen = one_gpu.Report.add, []

    def added(self: one_gpu.Report, *arguments: Any) -> None:
        add(self, *arguments)
        kept = json.loads((tmp_path / "kept" / "bench.json").read_text())
        seen.append(len(kept["rows"]))

    monkeypatch.setattr(one_gpu.Report, "add", added)
    rows = bench("--models", "sd15", "--peer", str(tmp_path), failing="train-peer-sd15")["rows"]
    assert seen == [1, 2]
    assert rows[0]["not measured"] == "peer: RuntimeError: broken"
    assert rows[0]["ours"] > 0


def test_bench_says_where_ours_took_smaller_passes(
    bench: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    rows = bench("--models", "flux", "--peer", str(tmp_path), failing="train-ours")["rows"]
    assert rows[0]["ours"] > 0
    assert rows[0]["not measured"].startswith("ours: memory ran out, so that it took smaller")


def test_bench_out_of_time_names_every_part(bench: Callable[..., dict[str, Any]]) -> None:
    rows = bench("--minutes", "0.001")["rows"]
    assert len(rows) == 5
    assert all("ours: out of time" in row["not measured"] for row in rows)
    assert all(row["ours"] is None for row in rows)
