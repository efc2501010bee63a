"""A run of this machine that another process stops."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from boothline.errors import ConfigError, ServiceError
from boothline.launch.local.folder import RunFolder, folder_of
from boothline.launch.local.stopping import stop

RUN = "20260131-093000-1a2b"
PROGRAM = """
import signal, sys, threading
from pathlib import Path
from boothline.launch.local.folder import only_run
stopped = threading.Event()
signal.signal(signal.SIGINT, lambda number, frame: sys.argv[2] == "ends" and stopped.set())
with only_run(Path(sys.argv[1]), "20260131-093000-1a2b"):
    print("running", flush=True)
    stopped.wait(60)
"""


@pytest.fixture(params=["ends"])
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds the home folder for a run, and ends on SIGINT if it is to."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), request.param]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        yield process
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """The folder of the run."""
    return folder_of(tmp_path, RUN)


@pytest.mark.proves("F35/cancel")
def test_stop_interrupts_the_run_and_waits_for_its_end(
    running: "subprocess.Popen[str]", tmp_path: Path, folder: RunFolder
) -> None:
    assert stop(tmp_path, folder) < 60
    assert running.wait(timeout=10) == 0


@pytest.mark.parametrize("running", ["stays"], indirect=True)
def test_run_that_does_not_end_is_named(
    running: "subprocess.Popen[str]", tmp_path: Path, folder: RunFolder
) -> None:
    with pytest.raises(ServiceError, match=f"process {running.pid}"):
        stop(tmp_path, folder, longest_seconds=0.2)


def test_another_run_is_left_alone(running: "subprocess.Popen[str]", tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not running"):
        stop(tmp_path, folder_of(tmp_path, "20260131-093000-ffff"))
    assert running.poll() is None


def test_run_that_has_ended_cannot_be_stopped(tmp_path: Path, folder: RunFolder) -> None:
    with pytest.raises(ConfigError, match="is not running"):
        stop(tmp_path, folder)
