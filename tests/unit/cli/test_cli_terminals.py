"""How far a run is, on terminals of two widths, in a pipe and in a log of CI."""

import os
import subprocess
import sys

import pytest

from boothline.catalogue import steps_of
from website.terminal import lines_of, screen

# Events of a whole run, drawn as commands draw them; a line is said in between.
PROGRAM = """
from boothline.catalogue import steps_of
from website.terminal import lines_of, screen
from boothline.cli.printing import console, is_live
from boothline.launch.local.display import LiveDisplay, PlainDisplay
from boothline.launch.local.events import RunProgress
from boothline.progress import Event

names = [step.name for step in steps_of("dreambooth")]
progress, now, target = RunProgress(names), [0.0], console(stderr=True)
kind = LiveDisplay if is_live(target) else PlainDisplay
with kind(target, clock=lambda: 1 + now[0]) as display:
    for number, name in enumerate(names):
        for seconds, words in enumerate(
            [{"kind": "started"}]
            + [{"kind": "progress", "done": n, "total": 200, "unit": "images",
                "note": "loss 0.0412, grad 1.2, 123.4 images/s"} for n in (10, 200)]
            + [{"kind": "remark", "remark": "Warning: a remark of some length, as steps make"},
               {"kind": "done"}]
        ):
            now[0] = 100.0 * number + 20 * seconds
            progress.apply(Event(step=name, time=1 + now[0], **words))
            display.show(progress)
        if number == 2:
            display.say("Said in between.")
"""
STEPS = [step.name for step in steps_of("dreambooth")]


def variables(**others: str) -> dict[str, str]:
    """Return the environment without what says how to print."""
    said = {"COLUMNS", "LINES", "CI", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"}
    clean = {name: value for name, value in os.environ.items() if name not in said}
    return clean | {"TERM": "xterm-256color"} | others


@pytest.mark.parametrize("columns", [80, 120])
def test_terminal_shows_one_table_with_a_row_a_step(columns: int) -> None:
    command = [sys.executable, "-c", PROGRAM]
    shown = lines_of(screen(command, columns=columns, variables=variables()))

    lines = [line for line in shown if line]
    assert lines[0] == "Said in between."
    assert [line.split()[0] for line in lines[1:]] == ["Step", *STEPS, "run"]
    assert all("done" in line and "200/200 images" in line for line in lines[2:-1])
    assert all(line.endswith("1:20") for line in lines[2:-1])


@pytest.mark.parametrize("others", [{}, {"FORCE_COLOR": "1"}, {"GITHUB_ACTIONS": "true"}])
def test_pipe_gets_plain_lines_without_control_sequences(others: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=variables(**others)
    )
    lines = done.stderr.splitlines()
    assert [line.split()[:2] for line in lines if line.split()[1] == "done"] == [
        [step, "done"] for step in STEPS
    ]
    assert "\x1b[1A" not in done.stderr
    assert "\x1b[2K" not in done.stderr
    assert max(map(len, lines)) < 120


def test_log_of_ci_with_a_terminal_gets_plain_lines() -> None:
    command = [sys.executable, "-c", PROGRAM]
    shown = lines_of(screen(command, columns=120, rows=60, variables=variables(CI="true")))
    assert [line.split()[0] for line in shown if " done " in line] == STEPS
    assert sum(line.startswith("train ") for line in shown) > 2
