"""A real program behind a connection: its answers, its silence, its end."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.turns import NotMeasuredError, Order, Side

BEGIN = """
import sys, time
from types import SimpleNamespace
from benchmarks.turns import Turns, connection_of

turns = Turns(connection_of(sys.argv[1]), device=SimpleNamespace(type="cpu"))
turns.wait()
turns()
"""
PATIENCE_SECONDS = 240.0
Starter = Callable[[str], Side]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    """Return a function that starts a program which answers once, and then does what is given."""
    with ExitStack() as stack:

        def started(then: str) -> Side:
            command = [sys.executable, "-c", BEGIN + then]
            side = Side(command, environment=dict(os.environ), log=tmp_path / "program.log")
            stack.callback(side.close)
            return side

        yield started


def late() -> float:
    return time.monotonic() + PATIENCE_SECONDS


def test_program_that_raises_is_not_measured_and_its_error_is_the_reason(start: Starter) -> None:
    side = start("raise MemoryError('CUDA out of memory: 3 GiB')")
    assert side.ask(Order(), until=late()).units == 1
    with pytest.raises(NotMeasuredError, match=r"^out of memory: MemoryError: CUDA out of memory"):
        side.ask(Order(), until=late())


def test_program_that_is_killed_is_not_measured(start: Starter) -> None:
    side = start("import os; os.kill(os.getpid(), 9)")
    side.ask(Order(), until=late())
    with pytest.raises(NotMeasuredError, match="killed by the system"):
        side.ask(Order(), until=late())


def test_program_that_is_silent_is_out_of_time_and_can_be_closed(start: Starter) -> None:
    side = start("time.sleep(1000)")
    side.ask(Order(), until=late())
    with pytest.raises(NotMeasuredError, match="out of time"):
        side.ask(Order(), until=time.monotonic() + 0.1)
    side.close()
