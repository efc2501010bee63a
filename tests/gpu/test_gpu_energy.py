"""What work on a GPU costs, by NVML's energy counter."""

import sys
from types import ModuleType

import pytest
import torch

from boothline import metering

SECONDS = 0.5


class CountingNvml(ModuleType):
    """Stands in for NVML on a machine without a GPU: one GPU of 100 W, by the processor's clock."""

    class NVMLError(Exception):
        """What NVML raises."""

    def nvmlInit(self) -> None:
        """Open the library."""

    def nvmlShutdown(self) -> None:
        """Close the library."""

    def nvmlDeviceGetCount(self) -> int:
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        import time

        return int(100_000 * time.process_time())


@pytest.fixture
def nvml(on_cpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if on_cpu:
        monkeypatch.setitem(sys.modules, "pynvml", CountingNvml("pynvml"))
    else:
        pytest.importorskip("pynvml", reason="needs the extra gpu")


@pytest.mark.usefixtures("nvml")
@pytest.mark.proves("F49/energy")
def test_work_on_the_device_takes_energy(device: torch.device) -> None:
    before = metering.read()
    if before.gpus and before.gpus[0] is None:
        pytest.skip("this GPU has no energy counter")
    square = torch.randn(1024, 1024, device=device)
    for _ in range(400 if device.type == "cuda" else 4):
        square = torch.nn.functional.normalize(square @ square)
    float(square.sum())  # waits for the device
    used = metering.between(before, metering.read())
    assert used.num_gpus >= 1
    assert used.gpu_joules is not None
    assert used.gpu_joules > 0
