"""The containers profile: what kfp.local's DockerRunner gets, and how its containers run."""

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from boothline.config import RunConfig
from boothline.config.fields import MODELS, PATHS, named_in
from boothline.errors import ConfigError, ServiceError
from boothline.launch.local.processes import STOPPED, StepLauncher, put_in_place

if TYPE_CHECKING:
    from docker import DockerClient  # type: ignore[import-untyped]

logger = logging.getLogger(__name__)

RUN_LABEL = "boothline.run"
NOBODY = 10001
"""User of the containers where this process is root's; the images' own."""
_REMOTE = "s3://"
_SCRATCH = "/scratch"
_STOP_SECONDS = 30
# Kubeflow's shell is a container's first process, which heeds no SIGTERM and passes none on.
_TELL_ALL = "import os, signal; os.kill(-1, signal.SIGTERM)"
# The image has its own models and folders.
_OWN = frozenset({"BOOTHLINE_MODELS_DIR", "BOOTHLINE_HOME"})


class ContainerLauncher(StepLauncher):
    """Runs the container of each step for kfp.local's DockerRunner, until asked to stop.

    kfp.local lets Docker remove a container that ended and calls it a success when it is gone
    before its status was read, and it prints the output of all steps as one. So `install` puts
    this in the place of `run_docker_container`.

    Args:
        log_dir: folder that receives `<step>[-<shard>].log`.
        run_id: the run, as its containers are labelled.
    """

    def __init__(self, log_dir: Path, *, run_id: str) -> None:
        super().__init__(log_dir)
        self._run_id = run_id

    def install(self) -> None:
        """Let kfp.local run its containers through this."""
        put_in_place("docker_task_handler", "run_docker_container", self.run_container)

    def run_container(
        self,
        client: "DockerClient",
        image: str,
        command: Sequence[str],
        volumes: Mapping[str, object],
        **container_run_args: object,
    ) -> int:
        """Run a step's container to its end and return its exit status; refuse when stopping."""
        if self.stopping:
            return STOPPED
        container = client.containers.run(
            image, list(command), volumes=volumes, detach=True, **container_run_args
        )
        try:
            with self.log_of(command).open("ab") as log:
                for part in container.logs(stream=True):
                    log.write(part)
                    log.flush()
            return int(container.wait()["StatusCode"])
        finally:
            container.remove(force=True)

    def stop(self) -> None:
        """Start no more steps, send SIGTERM to this process's group and to the containers."""
        threading.Thread(target=end_containers, args=(self._run_id,)).start()
        super().stop()


def run_arguments(
    run_dir: Path, config: RunConfig, environment: Mapping[str, str]
) -> dict[str, object]:
    """Return what every container of a run is started with.

    The containers reach the services on this machine's loopback, write into the run's folder and
    see the pictures where they lie; their root file system is read-only.

    Args:
        run_dir: the run's folder.
        config: the run's configuration.
        environment: the process's environment, of which BOOTHLINE_* and OTEL_* are passed on.
    """
    from docker.types import Mount  # type: ignore[import-untyped]

    run = str(run_dir)
    mounts = [Mount(target=run, source=run, type="bind")]
    for path in local_paths(config):
        mounts.append(Mount(target=str(path), source=str(path), type="bind", read_only=True))
    passed = {
        name: value
        for name, value in environment.items()
        if name.startswith(("BOOTHLINE_", "OTEL_")) and name not in _OWN
    }
    return {
        "network_mode": "host",
        "user": f"{os.getuid() or NOBODY}:{os.getgid() or NOBODY}",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "tmpfs": {"/tmp": _tmpfs("1g"), _SCRATCH: _tmpfs("4g")},  # noqa: S108 - its mounts
        "shm_size": "1g",
        "labels": {RUN_LABEL: run_dir.name},
        "mounts": mounts,
        "environment": {
            **passed,
            "TMPDIR": _SCRATCH,
            "BOOTHLINE_HOME": f"{_SCRATCH}/home",
            "HF_HUB_OFFLINE": "0" if config.base_model.allow_hub else "1",
        },
    }


def _tmpfs(size: str) -> str:
    """Return the options of a writable folder in memory."""
    return f"size={size},mode=1777"


def check_readable(config: RunConfig) -> None:
    """Check that containers, which are never root's, can read what the configuration names.

    Raises:
        ConfigError: a file is its owner's alone, and the owner is root.
    """
    for path in () if os.getuid() else local_paths(config):
        for item in (path, *path.rglob("*")):
            if not item.stat().st_mode & 0o004:
                raise ConfigError(
                    f"{item} can be read by its owner only, and no container runs as root.",
                    remedy=f"chmod -R a+rX {path}",
                )


def give_folder(run_dir: Path) -> None:
    """Let the containers write into the run's folder, where this process is root's."""
    (run_dir / "kfp").mkdir(exist_ok=True)
    for path in () if os.getuid() else (run_dir, *run_dir.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def local_paths(config: RunConfig) -> list[Path]:
    """Return the files and folders of this machine that a configuration names."""
    named = named_in(config, (*PATHS, *MODELS)).values()
    local = [Path(value) for value in named if value.startswith("/")]
    return sorted({path for path in local if path.exists()})


def check_images(images: tuple[str, ...]) -> None:
    """Check that Docker answers and has the images.

    Raises:
        ServiceError: Docker does not answer.
        ConfigError: an image is missing.
    """
    import docker
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
    from docker.errors import APIError

    client = docker.from_env()
    try:
        ours = {"label": f"{RUN_LABEL}={run_id}"}
        for container in client.containers.list(filters=ours, ignore_removed=True):
            try:
                container.exec_run(["python3", "-c", _TELL_ALL])
                container.stop(timeout=_STOP_SECONDS)
            except APIError as error:
                logger.info("container %s ended by itself: %s", container.short_id, error)
    finally:
        client.close()
