"""Measures what a step costs (processor time, energy), and how busy its machine is.

Energy is that of the whole machine while the step ran: steps that run side by side share it.
"""

import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from pydantic import BaseModel, ConfigDict, Field

logger = logging.getLogger(__name__)

POWERCAP = Path("/sys/class/powercap")
GAUGES = "system/"
"""Before the names by which MLflow draws system metrics."""
_MICRO, _MILLI, _MEGABYTE = 1e-6, 1e-3, 1e6


class Usage(BaseModel):
    """What a step took; None where it could not be measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu_seconds: float = Field(description="Processor time of the step and its children.")
    num_gpus: int = Field(default=0, description="GPUs that the step could see.")
    cpu_joules: float | None = Field(default=None, description="Of all CPU packages (RAPL).")
    gpu_joules: float | None = Field(default=None, description="Of all GPUs (NVML).")


@dataclass(frozen=True)
class Reading:
    """Counters at one moment.

    Attributes:
        cpu_seconds: processor time of this process and its ended children.
        packages: RAPL counter of each CPU package and where it wraps, in joules.
        gpus: NVML counter of each GPU, in joules; None for a GPU that has none.
    """

    cpu_seconds: float
    packages: tuple[tuple[float, float], ...]
    gpus: tuple[float | None, ...]


def read(powercap: Path = POWERCAP) -> Reading:
    """Read all counters of this machine; those that may not be read are left out."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return Reading(
        cpu_seconds=sum(one.ru_utime + one.ru_stime for one in used),
        packages=_packages(powercap),
        gpus=_gpus(),
    )


def between(start: Reading, end: Reading) -> Usage:
    """Return what was used from one reading to a later one."""
    cpu_joules = None
    if start.packages and len(start.packages) == len(end.packages):
        pairs = zip(start.packages, end.packages, strict=True)
        # A counter that wrapped around is below its start; it wraps at most once in a step's time
        # only for short steps, so for long ones on old processors the value may be too low.
        cpu_joules = sum(
            after - before if after >= before else after - before + wrap
            for (before, wrap), (after, _) in pairs
        )
    gpu_joules = None
    measured = [
        after - before
        for before, after in zip(start.gpus, end.gpus, strict=False)
        if before is not None and after is not None
    ]
    if measured and len(measured) == len(end.gpus):
        gpu_joules = sum(measured)
    return Usage(
        cpu_seconds=round(end.cpu_seconds - start.cpu_seconds, 3),
        num_gpus=len(end.gpus),
        cpu_joules=None if cpu_joules is None else round(cpu_joules, 1),
        gpu_joules=None if gpu_joules is None else round(gpu_joules, 1),
    )


def _packages(powercap: Path) -> tuple[tuple[float, float], ...]:
    """Return the RAPL counters of the CPU packages: `intel-rapl:<n>`, on AMD's processors too."""
    found: list[tuple[float, float]] = []
    for folder in sorted(powercap.glob("intel-rapl:[0-9]*")):
        if folder.name.count(":") != 1:  # a part of a package
            continue
        try:
            values = [
                int((folder / name).read_text()) * _MICRO
                for name in ("energy_uj", "max_energy_range_uj")
            ]
        except (OSError, ValueError) as error:
            logger.debug("%s cannot be read: %s", folder.name, error)
            return ()
        found.append((values[0], values[1]))
    return tuple(found)


@contextmanager
def open_nvml() -> Iterator[tuple[ModuleType, list[object]]]:
    """Yield NVML and a handle of each GPU; no handle where there is no GPU or no extra `gpu`."""
    try:
        import pynvml
    except ImportError:
        yield ModuleType("pynvml"), []
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        logger.debug("no GPU is measured: %s", error)
        yield ModuleType("pynvml"), []
        return
    try:
        count = pynvml.nvmlDeviceGetCount()
        yield pynvml, [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
    finally:
        pynvml.nvmlShutdown()


def _gpus() -> tuple[float | None, ...]:
    """Return the energy counter of each GPU since its driver was loaded, in joules."""
    with open_nvml() as (nvml, handles):
        counters: list[float | None] = []
        for index, handle in enumerate(handles):
            try:
                counters.append(nvml.nvmlDeviceGetTotalEnergyConsumption(handle) * _MILLI)
            except nvml.NVMLError as error:
                logger.debug("GPU %d reports no energy: %s", index, error)
                counters.append(None)
        return tuple(counters)


def read_gauges() -> dict[str, float]:
    """Return how busy and how full the machine is: per cent and megabytes, by metric name.

    The processor's share is that since the call before; the first call of a process returns 0. Of
    GPUs there are values where NVML and the extra `gpu` are there. Everything is of the whole
    machine, not of one step.
    """
    import psutil

    memory = psutil.virtual_memory()
    values = {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / _MEGABYTE,
        "system_memory_usage_percentage": memory.percent,
        **dict(_gpu_gauges()),
    }
    return {f"{GAUGES}{name}": float(value) for name, value in values.items()}


def _gpu_gauges() -> Iterator[tuple[str, float]]:
    """Yield name and value of what each GPU reports."""
    for gpu in gpu_use():
        yield f"gpu_{gpu.index}_memory_usage_megabytes", gpu.used_bytes / _MEGABYTE
        yield f"gpu_{gpu.index}_memory_usage_percentage", 100 * gpu.used_bytes / gpu.total_bytes
        yield f"gpu_{gpu.index}_utilization_percentage", gpu.percent


@dataclass(frozen=True, kw_only=True)
class GpuUse:
    """How busy and how full a GPU is, whoever uses it.

    Attributes:
        index: its number.
        percent: share of the last second in which it worked.
        used_bytes: memory in use.
        total_bytes: memory that it has.
    """

    index: int
    percent: float
    used_bytes: int
    total_bytes: int


def gpu_use() -> list[GpuUse]:
    """Return the use of each GPU that answers; none without NVML and the extra `gpu`."""
    found: list[GpuUse] = []
    with open_nvml() as (nvml, handles):
        for index, handle in enumerate(handles):
            try:
                memory = nvml.nvmlDeviceGetMemoryInfo(handle)
                busy = nvml.nvmlDeviceGetUtilizationRates(handle).gpu
            except nvml.NVMLError as error:
                logger.debug("GPU %d reports nothing: %s", index, error)
                continue
            found.append(
                GpuUse(index=index, percent=busy, used_bytes=memory.used, total_bytes=memory.total)
            )
    return found
