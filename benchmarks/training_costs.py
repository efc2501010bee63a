"""`make bench-checkpoints`: what training states, a resume and a second rank cost, tiny base.

- `states`: a state every 25 steps, the store 5 ms away: how long the training waits for them.
- `resume`: from the start of the process that goes on to its first new step.
- `ranks`: two ranks with one thread each against one rank with two threads, alternating.
"""

import argparse
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.measuring import measure, middle, print_table, tell
from benchmarks.training_task import (
    BATCH_SIZE,
    NEVER,
    Task,
    config_of,
    draw_pictures,
    environment,
    our_command,
)
from boothline import services
from boothline.config import RunConfig
from tests.fault_proxy import FaultProxy

LATENCY_SECONDS = 0.005
STATE_EVERY = 25
SETTLING_STEPS = 5
ROWS = ("states", "resume", "ranks")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    measures = {"states": _states, "resume": _resume, "ranks": _ranks}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="boothline-bench-") as scratch:
        home = Path(scratch) / "home"
        pictures = Path(scratch) / "pictures"
        draw_pictures(pictures)
        task = Task(pictures, precision="fp32", train_text_encoder=True)
        more = services.ensure(home, only=("seaweedfs",)).environment()
        try:
            for row in options.rows:
                found = measures[row](task, more=more, repeats=options.repeats)
                tell(str(found))
                rows += found
        finally:
            services.stop(home)
    print_table("Costs of a training, tiny base", rows)


def _states(task: Task, *, more: Mapping[str, str], repeats: int) -> list[dict[str, Any]]:
    """Measure the waiting for states, and what they cost in all, against runs without."""
    far = dict(more)
    waits, steps, plain = [], [], []
    with FaultProxy(more["BOOTHLINE_S3_ENDPOINT"]) as proxy:
        proxy.delay_seconds = LATENCY_SECONDS
        far["BOOTHLINE_S3_ENDPOINT"] = proxy.url
        for _ in range(repeats):
            for every in (STATE_EVERY, NEVER):
                config = config_of(task, num_steps=2 * STATE_EVERY + 10, state_every=every)
                notes = _train(task, config, more=far)
                paces = notes["images_per_second"][SETTLING_STEPS:]
                seconds = [2 * BATCH_SIZE / pace for pace in paces]
                if every == NEVER:
                    plain.append(middle(seconds))
                    continue
                due = (STATE_EVERY, 2 * STATE_EVERY)
                waits += [notes["state_seconds"][str(step)] for step in due]
                steps.append(sum(seconds) / len(seconds))
    wait = middle(waits) / (STATE_EVERY * middle(plain))
    return [
        _row("wait for states, % of step time", 100 * wait, bar="<= 1"),
        _row("wait for one state, s", middle(waits)),
        _row(
            "all that states slow down (hashing, upload, the store itself on the same cores), %",
            100 * (middle(steps) / middle(plain) - 1 + wait),
        ),
    ]


def _resume(task: Task, *, more: Mapping[str, str], repeats: int) -> list[dict[str, Any]]:
    """Kill a training behind a state, start it again and wait for its first new step."""
    config = config_of(task, num_steps=30, state_every=10)
    found = []
    for number in range(repeats):
        command = our_command(task, config, states=f"resume-{number}")
        _kill_after_state(command, environment=environment(threads=2, more=more))
        run = measure(command, environment=environment(threads=2, more=more))
        found.append(json.loads(run.output)["first_step_at"] - run.started)
    return [_row("resume: process start to first new step, s", middle(found), bar="<= 12")]


def _kill_after_state(command: Sequence[str], *, environment: Mapping[str, str]) -> None:
    """Start a training and kill all of it once a state is in the store."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=dict(environment), stdout=log, stderr=log)
        while process.poll() is None and not _holds(log.fileno(), b"committed"):
            time.sleep(0.1)
        children = psutil.Process(process.pid).children(recursive=True)
        for pid in (*(child.pid for child in children), process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait()


def _holds(log: int, word: bytes) -> bool:
    """Tell whether a log, written by another process, holds a word."""
    return word in os.pread(log, os.fstat(log).st_size, 0)


def _ranks(task: Task, *, more: Mapping[str, str], repeats: int) -> list[dict[str, Any]]:
    """Measure images per second of two ranks on two cores and of one rank on both.

    Two ranks share the batch of one, or take as many pictures each as one does.
    """
    cases = [(size, ranks) for size in (BATCH_SIZE, 2 * BATCH_SIZE) for ranks in (1, 2)]
    pace: dict[tuple[int, int], list[float]] = {case: [] for case in cases}
    for repeat in range(repeats):
        for size, ranks in cases if repeat % 2 == 0 else reversed(cases):
            extra = {"num_processes": ranks, "batch_size": size}
            config = config_of(task, num_steps=30, extra=extra)
            notes = _train(task, config, more=more, threads=2 // ranks)
            pace[size, ranks].append(middle(notes["images_per_second"][SETTLING_STEPS:]))
            tell(f"{ranks} ranks, batch {size}: {pace[size, ranks][-1]:.2f} images/s")
    rows = [
        _row(f"{ranks} ranks, {size // ranks} + {size // ranks} each: images/s", middle(found))
        for (size, ranks), found in pace.items()
    ]
    for size, bar in ((BATCH_SIZE, ""), (2 * BATCH_SIZE, ">= 0.85")):
        ratios = [two / one for one, two in zip(pace[size, 1], pace[size, 2], strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        name = f"two ranks beside one, {size} + {size} in all ({spread})"
        rows.append(_row(name, middle(ratios), bar=bar))
    return rows


def _train(
    task: Task, config: RunConfig, *, more: Mapping[str, str], threads: int = 2
) -> dict[str, Any]:
    """Train once and return what it noted."""
    run = measure(our_command(task, config), environment=environment(threads=threads, more=more))
    notes: dict[str, Any] = json.loads(run.output)
    return notes


def _row(figure: str, value: float, *, bar: str = "") -> dict[str, Any]:
    return {"figure": figure, "measured": value, "bar": bar}


if __name__ == "__main__":
    main()
