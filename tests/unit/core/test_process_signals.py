"""Signals inside a block, tails of files that grow, and failures that cross processes."""

import errno
import os
import signal
import threading
from pathlib import Path

import pytest

from boothline import errors
from boothline.errors import BoothlineError, DiskFullError, IntegrityError, TrainingError
from boothline.processes import listening
from boothline.progress import LineTail
from boothline.runs import Failure


def test_listening_answers_inside_the_block_and_restores_what_was_there() -> None:
    before = signal.getsignal(signal.SIGUSR2)
    heard: list[int] = []
    with listening({signal.SIGUSR2: lambda number, frame: heard.append(number)}):
        os.kill(os.getpid(), signal.SIGUSR2)
    assert heard == [signal.SIGUSR2]
    assert signal.getsignal(signal.SIGUSR2) == before


def test_listening_in_another_thread_changes_nothing() -> None:
    before = signal.getsignal(signal.SIGUSR2)
    inside: list[object] = []

    def listen() -> None:
        with listening({signal.SIGUSR2: lambda number, frame: None}):
            inside.append(signal.getsignal(signal.SIGUSR2))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert inside == [before]


def test_line_tail_gives_each_complete_line_once_and_a_torn_one_later(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tail = LineTail(path)
    assert tail.read() == []
    path.write_bytes(b"one\ntwo\nthr")
    assert tail.read() == [b"one", b"two"]
    with path.open("ab") as stream:
        stream.write("ee \u2028\n".encode())
    assert tail.read() == ["three \u2028".encode()]
    assert tail.read() == []


@pytest.mark.parametrize(
    "error", [IntegrityError("bytes differ", remedy="Fetch again."), DiskFullError("full")]
)
def test_failure_comes_back_as_the_class_it_had(error: BoothlineError) -> None:
    told = Failure.model_validate_json(Failure.of(error).model_dump_json())
    assert told.exit_code == error.exit_code
    back = told.error()
    assert (type(back), back.message, back.remedy) == (type(error), error.message, error.remedy)


def test_failure_of_a_full_disk_is_told_apart_from_other_errors_of_the_system() -> None:
    full = Failure.of(OSError(errno.EDQUOT, "quota", "/scratch"))
    assert (full.type, full.message) == ("DiskFullError", "No space is left for /scratch.")
    assert Failure.of(OSError(errno.EIO, "broken")).type == "OSError"
    assert Failure.of(KeyboardInterrupt()).exit_code == 130


@pytest.mark.parametrize("name", ["KeyError", "annotations", "is_disk_full"])
def test_failure_of_a_class_that_is_none_of_ours_is_a_training_error(name: str) -> None:
    assert type(Failure(type=name, message="m").error()) is TrainingError
    assert hasattr(errors, "is_disk_full")
