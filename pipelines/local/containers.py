"""The containers profile: what kfp.local's DockerRunner is told, and how its containers end."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from boothline.config import RunConfig
from boothline.errors import ConfigError, ServiceError

RUN_LABEL = "boothline.run"
_REMOTE = "s3://"
_SCRATCH = "/scratch"
_STOP_SECONDS = 30
# The image has its own models and folders.
_OWN = frozenset({"BOOTHLINE_MODELS_DIR", "BOOTHLINE_HOME"})


def run_arguments(
    run_dir: Path, config: RunConfig, environment: Mapping[str, str]
) -> dict[str, Any]:
    """Return what every container of a run is started with.

    The containers reach the services on this machine's loopback, write into the run's folder and
    see the pictures where they lie; their root file system is read-only.

    Args:
        run_dir: the run's folder.
        config: the run's configuration.
        environment: the process's environment, of which BOOTHLINE_* is passed on.
    """
    from docker.types import Mount  # type: ignore[import-untyped]

    run = str(run_dir)
    mounts = [Mount(target=run, source=run, type="bind")]
    for path in local_paths(config):
        mounts.append(Mount(target=str(path), source=str(path), type="bind", read_only=True))
    passed = {
        name: value
        for name, value in environment.items()
        if name.startswith("BOOTHLINE_") and name not in _OWN
    }
    return {
        "network_mode": "host",
        "user": f"{os.getuid()}:{os.getgid()}",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "tmpfs": {"/tmp": "size=1g", _SCRATCH: "size=4g"},  # noqa: S108 - mounts of the container
        "labels": {RUN_LABEL: run_dir.name},
        "mounts": mounts,
        "environment": {**passed, "TMPDIR": _SCRATCH, "BOOTHLINE_HOME": f"{_SCRATCH}/home"},
    }


def local_paths(config: RunConfig) -> list[Path]:
    """Return the files and folders of this machine that a configuration names."""
    named = [
        config.subject.images,
        config.base_model.source,
        config.inference.prompts_file or "",
        config.evaluation.clip_model,
        config.evaluation.dino_model,
    ]
    local = [Path(value) for value in named if value.startswith("/")]
    return sorted({path for path in local if path.exists()})


def check_images(images: tuple[str, ...]) -> None:
    """Check that Docker answers and has the images.

    Raises:
        ServiceError: Docker does not answer.
        ConfigError: an image is missing.
    """
    import docker  # type: ignore[import-untyped]
    from docker.errors import (  # type: ignore[import-untyped]
        DockerException,
        ImageNotFound,
    )

    try:
        client = docker.from_env()
        for image in images:
            client.images.get(image)
    except ImageNotFound as error:
        raise ConfigError(
            f"Docker has no image {image}.", remedy="Build the images with `make images`."
        ) from error
    except DockerException as error:
        raise ServiceError(
            f"Docker does not answer: {error}.",
            remedy="Start it, or run with --profile local.",
        ) from error


def end_containers(run_id: str) -> None:
    """Stop what still runs of a run; steps are left time to commit their state."""
    import docker

    client = docker.from_env()
    try:
        for container in client.containers.list(filters={"label": f"{RUN_LABEL}={run_id}"}):
            container.stop(timeout=_STOP_SECONDS)
    finally:
        client.close()
