"""What the machine is doing, under the names by which MLflow draws system metrics."""

import logging
from collections.abc import Iterator

from boothline.metering import open_nvml

logger = logging.getLogger(__name__)

PREFIX = "system/"
_MEGABYTE = 1e6


def read_gauges() -> dict[str, float]:
    """Return how busy and how full the machine is: per cent and megabytes, by metric name.

    The processor's share is that since the call before; the first call of a process tells 0. Of
    GPUs there are values where NVML and the extra `gpu` are there. Everything is of the whole
    machine, not of one step.
    """
    import psutil

    memory = psutil.virtual_memory()
    values = {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / _MEGABYTE,
        "system_memory_usage_percentage": memory.percent,
        **dict(_gpus()),
    }
    return {f"{PREFIX}{name}": float(value) for name, value in values.items()}


def _gpus() -> Iterator[tuple[str, float]]:
    """Yield name and value of what each GPU tells."""
    with open_nvml() as (nvml, handles):
        for index, handle in enumerate(handles):
            try:
                memory = nvml.nvmlDeviceGetMemoryInfo(handle)
                busy = nvml.nvmlDeviceGetUtilizationRates(handle).gpu
            except nvml.NVMLError as error:
                logger.debug("GPU %d tells nothing: %s", index, error)
                continue
            yield f"gpu_{index}_memory_usage_megabytes", memory.used / _MEGABYTE
            yield f"gpu_{index}_memory_usage_percentage", 100 * memory.used / memory.total
            yield f"gpu_{index}_utilization_percentage", busy
