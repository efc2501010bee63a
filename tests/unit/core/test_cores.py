"""How many cores a process may use: affinity and the quotas of both versions of control groups."""

import builtins
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from boothline.processes import available_cores, cores_for, num_gpus

CORES = 8
V2 = "/sys/fs/cgroup/cpu.max"
V1 = "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """A machine of eight cores whose control group says what the files say."""
    monkeypatch.delenv("LOKY_MAX_CPU_COUNT", raising=False)  # what a run of the tests may use
    monkeypatch.setattr(os, "cpu_count", lambda: CORES)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(CORES)))
    exists, opened = os.path.exists, builtins.open

    def say(files: dict[str, str]) -> None:
        def there(path: Any) -> bool:
            return path in files if str(path).startswith("/sys/fs/cgroup") else exists(path)

        def read(path: Any, *arguments: Any, **options: Any) -> Any:
            return (
                io.StringIO(files[path]) if path in files else opened(path, *arguments, **options)
            )

        monkeypatch.setattr(os.path, "exists", there)
        monkeypatch.setattr(builtins, "open", read)

    return say


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, CORES),
        ({V2: "max 100000\n"}, CORES),
        ({V2: "100000 100000\n"}, 1),
        ({V2: "250000 100000\n"}, 3),
        ({V2: "50000 100000\n"}, 1),
        ({V1[0]: "-1\n", V1[1]: "100000\n"}, CORES),
        ({V1[0]: "200000\n", V1[1]: "100000\n"}, 2),
    ],
)
def test_available_cores_are_those_of_the_quota(
    machine: Any, files: dict[str, str], expected: int
) -> None:
    machine(files)
    assert available_cores() == expected


def test_available_cores_are_those_of_the_affinity(
    machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine({V2: "400000 100000\n"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 5})
    assert available_cores() == 2


@pytest.mark.skipif("OMP_NUM_THREADS" not in os.environ, reason="the run gives a process all cores")
def test_available_cores_in_a_run_of_the_tests_are_those_it_gives_a_process() -> None:
    assert available_cores() <= int(os.environ["OMP_NUM_THREADS"])


@pytest.mark.parametrize(("num_processes", "share"), [(1, 8), (2, 4), (3, 2), (8, 1), (50, 1)])
def test_cores_for_several_processes_leave_each_its_share(
    machine: Any, monkeypatch: pytest.MonkeyPatch, num_processes: int, share: int
) -> None:
    machine({})
    for name, value in cores_for(num_processes).items():
        monkeypatch.setenv(name, value)
    assert available_cores() == share


def test_gpus_of_a_machine_without_a_driver_are_none_and_torch_is_not_loaded(
    tmp_path: Path,
) -> None:
    code = (
        "import pathlib, sys; from boothline.processes import num_gpus;"
        f"print(num_gpus([pathlib.Path({str(tmp_path / 'none')!r})]), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "False"]


def test_gpus_behind_a_driver_are_those_that_torch_may_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert num_gpus([tmp_path / "none", tmp_path]) == 3
