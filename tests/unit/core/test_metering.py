import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from boothline import metering
from boothline.metering import Reading, between, read


def _package(folder: Path, name: str, *, joules: float, wraps_at: float = 1000) -> None:
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "energy_uj").write_text(f"{joules * 1e6:.0f}\n")
    (folder / name / "max_energy_range_uj").write_text(f"{wraps_at * 1e6:.0f}\n")


def test_read_counts_packages_once_and_not_their_parts(tmp_path: Path) -> None:
    for name in ("intel-rapl:0", "intel-rapl:0:0", "intel-rapl:1"):
        _package(tmp_path, name, joules=5)

    assert read(tmp_path).packages == ((5.0, 1000.0), (5.0, 1000.0))


def test_between_adds_packages_and_follows_a_counter_that_wrapped() -> None:
    start = Reading(1.0, ((10.0, 1000.0), (990.0, 1000.0)), (100.0, 50.0))
    end = Reading(3.5, ((25.0, 1000.0), (5.0, 1000.0)), (160.0, 90.0))

    used = between(start, end)

    assert used.cpu_seconds == 2.5
    assert used.cpu_joules == pytest.approx(15 + 15)
    assert (used.num_gpus, used.gpu_joules) == (2, 100.0)


def test_between_says_nothing_of_energy_that_was_not_read() -> None:
    used = between(Reading(0.0, (), (None,)), Reading(1.0, (), (None,)))

    assert (used.cpu_joules, used.gpu_joules, used.num_gpus) == (None, None, 1)


def test_read_of_a_machine_without_counters_still_has_processor_time(tmp_path: Path) -> None:
    start = read(tmp_path)
    until = time.process_time() + 0.02
    while time.process_time() < until:
        pass

    used = between(start, read(tmp_path))

    assert 0.01 <= used.cpu_seconds <= 10
    assert used.cpu_joules is None


def test_read_leaves_counters_out_that_may_not_be_read(tmp_path: Path) -> None:
    _package(tmp_path, "intel-rapl:0", joules=5)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()

    assert metering.read(tmp_path).packages == ()


class StandInNvml(ModuleType):
    """Two GPUs, of which the second tells no energy."""

    class NVMLError(Exception):
        """What NVML raises."""

    def nvmlInit(self) -> None:
        self.is_open = True

    def nvmlShutdown(self) -> None:
        self.is_open = False

    def nvmlDeviceGetCount(self) -> int:
        assert self.is_open
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        if handle == 1:
            raise self.NVMLError("not supported")
        return 12_500


def test_read_asks_nvml_for_each_gpu_in_joules(tmp_path: Path, monkeypatch) -> None:
    nvml = StandInNvml("pynvml")
    monkeypatch.setitem(sys.modules, "pynvml", nvml)

    assert read(tmp_path).gpus == (12.5, None)
    assert not nvml.is_open


def test_read_without_a_driver_sees_no_gpu(tmp_path: Path, monkeypatch) -> None:
    nvml = StandInNvml("pynvml")

    def fail() -> None:
        raise nvml.NVMLError("no driver")

    nvml.nvmlInit = fail
    monkeypatch.setitem(sys.modules, "pynvml", nvml)

    assert read(tmp_path).gpus == ()
