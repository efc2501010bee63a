"""A rank whose heartbeat stops is named after a while, and killed after a longer one."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from boothline.training.failures import Watch, start_beating


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(tmp_path: Path, clock: Clock) -> Watch:
    return Watch(tmp_path, ranks=range(2), warning_seconds=60, limit_seconds=150, clock=clock)


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is stopped, as a rank may be."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    process.send_signal(signal.SIGSTOP)
    yield process
    process.kill()
    process.wait()


def beat(folder: Path, *ranks: int, at: int) -> None:
    for rank in ranks:
        path = folder / f"beat-{rank}"
        path.touch()
        os.utime(path, ns=(at, at))


def looks(watch: Watch, clock: Clock, folder: Path, *, until: int, beating: int = 0) -> list[str]:
    """Look every ten seconds while one rank beats; return what was said."""
    said = []
    for tick in range(1, until // 10 + 1):
        clock.now += 10
        beat(folder, beating, at=tick * 7)
        said.append(watch.look())
    return [text for text in said if text]


@pytest.mark.proves("F64/rank")
def test_watch_names_a_silent_rank_after_the_warning_and_again(
    watch: Watch, clock: Clock, tmp_path: Path
) -> None:
    beat(tmp_path, 0, 1, at=1)
    assert watch.look() == ""
    assert looks(watch, clock, tmp_path, until=50) == []
    assert looks(watch, clock, tmp_path, until=80) == [
        "no step for 60 s: rank 1 does not answer",
        "no step for 120 s: rank 1 does not answer",
    ]
    beat(tmp_path, 1, at=99)
    assert looks(watch, clock, tmp_path, until=60) == []
    assert looks(watch, clock, tmp_path, until=10) == ["no step for 60 s: rank 1 does not answer"]
    assert watch.error() is None


def test_watch_names_all_silent_ranks(watch: Watch, clock: Clock, tmp_path: Path) -> None:
    beat(tmp_path, 0, 1, at=1)
    watch.look()
    clock.now += 61
    assert watch.look() == "no step for 61 s: ranks 0, 1 do not answer"


@pytest.mark.parametrize("word", ["done-1", "error-1.json"])
def test_watch_of_a_rank_that_has_ended_says_nothing(
    word: str, watch: Watch, clock: Clock, tmp_path: Path
) -> None:
    beat(tmp_path, 0, 1, at=1)
    (tmp_path / word).touch()
    assert looks(watch, clock, tmp_path, until=300) == []


def test_watch_of_a_rank_that_has_not_begun_says_nothing(
    watch: Watch, clock: Clock, tmp_path: Path
) -> None:
    assert looks(watch, clock, tmp_path, until=300) == []


def test_watch_kills_a_stopped_rank_after_the_limit(
    watch: Watch, clock: Clock, tmp_path: Path, sleeper: "subprocess.Popen[bytes]"
) -> None:
    (tmp_path / "process-1").write_text(str(sleeper.pid))
    beat(tmp_path, 0, 1, at=1)
    watch.look()
    looks(watch, clock, tmp_path, until=140)
    assert (sleeper.poll(), watch.error()) == (None, None)
    looks(watch, clock, tmp_path, until=10)
    assert sleeper.wait(10) == -signal.SIGKILL
    error = watch.error()
    assert error is not None
    assert error.message.startswith("For 150 s rank 1 did not answer")
    assert "BOOTHLINE_RANK_LIMIT_SECONDS" in error.remedy


def test_beating_changes_the_file_until_it_cannot(tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from boothline.training import failures as h;"
    program += "h.BEAT_SECONDS = 0.01; h.start_beating(Path(sys.argv[1]), rank=3); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, text=True
    )
    path = tmp_path / "beat-3"
    seen: set[int] = set()
    while len(seen) < 3 and process.poll() is None:
        seen |= {path.stat().st_mtime_ns} if path.exists() else set()
    process.communicate("\n", timeout=30)
    assert process.returncode == 0
    assert len(seen) == 3


def test_start_beating_leaves_a_file_at_once(tmp_path: Path) -> None:
    start_beating(tmp_path, rank=2)
    assert (tmp_path / "beat-2").exists()
