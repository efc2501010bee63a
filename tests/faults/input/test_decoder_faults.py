"""The decode worker is killed, or its disk is full: no verdict on the picture, no dataset."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_line import boothline
from poison_pictures import plain

from boothline.config.subject import SubjectConfig
from boothline.data import examine
from boothline.data.decoder import Answer, Picture, Unreadable, decode_all
from boothline.data.limits import Limits
from boothline.errors import BoothlineError, DiskFullError, MachineError
from boothline.settings import Settings

Note = Callable[[str, str], None]
OUTSIDE = ("SIGKILL", "SIGTERM", "SIGHUP", "SIGINT", "SIGBUS", "SIGQUIT")
ITS_OWN = ("SIGSEGV", "SIGABRT", "SIGILL", "SIGFPE")
# Started in place of Python: the real worker, which meets a fault while it decodes.
WORKER = """#!{python}
import os, signal, sys
from pathlib import Path

sys.path.insert(0, os.environ["PYTHONPATH"])
from boothline.data import decode_worker

decode, left = decode_worker.decode, Path({left!r})

def decode_or_die(path, **options):
    if path.stem.endswith("1") and (number := int(left.read_text())):
        left.write_text(str(number - 1))
        {fault}
    return decode(path, **options)

decode_worker.decode = decode_or_die
decode_worker.main()
"""
# A shell's background job ignores some signals; so does what it starts.
ENDED = """signal.getsignal({name}) is signal.SIG_IGN and signal.signal({name}, signal.SIG_DFL)
        os.kill(os.getpid(), {name})"""


def worker_with(fault: str, *, left: Path, worker: Path) -> str:
    """Write a worker that meets `fault` as often as the file `left` says; return its path."""
    worker.write_text(WORKER.format(python=sys.executable, left=str(left), fault=fault))
    worker.chmod(0o755)
    return str(worker)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(4):
        plain(seed).save(folder / f"{seed}.png")
    return sorted(folder.iterdir())


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Return what lets a signal end the worker at 1.png, so many times."""

    def arrange(name: str, times: int) -> None:
        left, worker = tmp_path / "left", tmp_path / "worker"
        left.write_text(str(times))
        fault = ENDED.format(name=f"signal.{name}")
        monkeypatch.setattr(sys, "executable", worker_with(fault, left=left, worker=worker))

    return arrange


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of 64 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)  # noqa: S607


def decoded(paths: list[Path], folder: Path) -> list[Answer]:
    return decode_all(paths, sizes_px=[(64, 64)], folder=folder, limits=Limits())


def digests(results: list[Answer]) -> list[str]:
    return [result.pixel_digest for result in results if isinstance(result, Picture)]


@pytest.mark.parametrize("name", [*OUTSIDE, *ITS_OWN])
def test_worker_ended_once_decodes_the_picture_again(
    pictures: list[Path], tmp_path: Path, ended, name: str, measured: Note
) -> None:
    undisturbed = digests(decoded(pictures, tmp_path / "undisturbed"))
    ended(name, 1)
    assert digests(decoded(pictures, tmp_path / "decoded")) == undisturbed
    assert len(undisturbed) == len(pictures)
    measured("worker killed", f"{name} once: every picture decoded")


@pytest.mark.parametrize("name", OUTSIDE)
def test_worker_killed_twice_is_the_fault_of_the_machine(
    pictures: list[Path], tmp_path: Path, ended, name: str, measured: Note
) -> None:
    ended(name, 2)
    with pytest.raises(MachineError, match=r"ended by signal .* twice") as caught:
        decoded(pictures, tmp_path / "decoded")
    assert caught.value.exit_code == 5
    assert "free memory" in caught.value.remedy
    measured("worker killed", f"{name} twice: exit code 5, no verdict")


@pytest.mark.parametrize("name", ITS_OWN)
def test_worker_that_crashes_twice_at_a_picture_costs_only_that(
    pictures: list[Path], tmp_path: Path, ended, name: str
) -> None:
    ended(name, 2)
    results = decoded(pictures, tmp_path / "decoded")
    assert [isinstance(result, Unreadable) for result in results] == [False, True, False, False]
    assert "ends the decoder" in results[1].reason


@pytest.mark.proves("F69")
def test_worker_killed_twice_leaves_no_dataset_behind(
    pictures: list[Path], tmp_path: Path, ended
) -> None:
    ended("SIGKILL", 2)
    output = tmp_path / "dataset"
    with pytest.raises(MachineError):
        examine(
            SubjectConfig(images=str(pictures[0].parent)),
            output=output,
            settings=Settings(home=tmp_path / "home"),
        )
    assert not output.exists()


def test_worker_that_does_not_start_is_the_fault_of_the_machine(
    pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho no memory >&2\nexit 1\n")
    broken.chmod(0o755)
    for executable, reason in (
        (str(broken), "does not start: it exited with 1: no memory"),
        (str(tmp_path / "missing"), "No such file"),
    ):
        monkeypatch.setattr(sys, "executable", executable)
        with pytest.raises(MachineError, match=reason):
            decoded(pictures, tmp_path / "decoded")


@pytest.mark.proves("F69")
@pytest.mark.parametrize("place", ["00001.cut", "00001.thumbnail", "request.json"])
def test_disk_full_while_decoding_is_no_verdict(
    pictures: list[Path], tmp_path: Path, place: str, measured: Note
) -> None:
    folder = tmp_path / "decoded"
    folder.mkdir()
    (folder / place).symlink_to("/dev/full")
    with pytest.raises(DiskFullError, match="No space is left to decode") as caught:
        decoded(pictures, folder)
    assert (caught.value.exit_code, "TMPDIR" in caught.value.remedy) == (5, True)
    measured("disk full while decoding", f"{place}: exit code 5, no verdict")


def test_disk_full_while_decoding_on_a_small_disk_is_named(
    pictures: list[Path], small_disk: Path
) -> None:
    with pytest.raises(DiskFullError, match="No space is left to decode"):
        decode_all(pictures, sizes_px=[(256, 256)], folder=small_disk / "d", limits=Limits())


def test_disk_full_in_validate_exits_with_5(
    pictures: list[Path], small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (small_disk / "filler").write_bytes(bytes(40_000))
    monkeypatch.setattr("tempfile.tempdir", str(small_disk))
    folder = str(pictures[0].parent)
    noun = ("--set", "subject.class_noun=bear")
    code, _, said = boothline(tmp_path, "validate", "--subject", folder, *noun)
    assert (code, "No space is left" in said) == (5, True)


def test_no_temporary_folder_at_all_is_a_full_disk(
    pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: [str(tmp_path / "missing")])
    with pytest.raises(DiskFullError, match="No temporary folder") as caught:
        examine(
            SubjectConfig(images=str(pictures[0].parent)),
            output=tmp_path / "dataset",
            settings=Settings(home=tmp_path / "home"),
        )
    assert isinstance(caught.value, BoothlineError)


@pytest.mark.parametrize("number", [5, 12, 2])  # EIO, ENOMEM, ENOENT
def test_picture_that_the_machine_cannot_read_is_no_verdict(
    pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    left = tmp_path / "left"
    left.write_text("2")
    worker = worker_with(f"raise OSError({number}, 'x')", left=left, worker=tmp_path / "worker")
    monkeypatch.setattr(sys, "executable", worker)
    with pytest.raises(MachineError, match=os.strerror(number)):
        decoded(pictures, tmp_path / "decoded")
