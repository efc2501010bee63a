"""What containers of a run are started with and how they end; what is said without Docker."""

import inspect
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boothline.config import RunConfig
from boothline.config.fields import MODELS, PATHS
from boothline.errors import ConfigError, ServiceError
from boothline.launch.local.containers import (
    NOBODY,
    ContainerLauncher,
    check_images,
    check_readable,
    local_paths,
    run_arguments,
)
from boothline.launch.local.folder import folder_of


class EndedContainer:
    """A container that failed at once, as Docker's client shows it."""

    def __init__(self) -> None:
        self.removed = False

    def logs(self, *, stream: bool) -> Iterator[bytes]:
        assert stream
        yield from (b"no such ", b"picture\n")

    def wait(self) -> dict[str, int]:
        assert not self.removed
        return {"StatusCode": 3}

    def remove(self, *, force: bool) -> None:
        assert force
        self.removed = True


class FakeDocker:
    """A Docker client whose containers fail at once."""

    def __init__(self) -> None:
        self.started: list[dict[str, Any]] = []
        self.container = EndedContainer()

    @property
    def containers(self) -> "FakeDocker":
        return self

    def run(self, image: str, command: list[str], **arguments: Any) -> EndedContainer:
        self.started.append({"image": image, "command": command, **arguments})
        return self.container


def command_of(step: str) -> list[str]:
    executor_input = json.dumps({"inputs": {"parameterValues": {}}})
    return ["sh", "-c", "--executor_input", executor_input, "--function_to_execute", step]


def config_of(pictures: Path) -> RunConfig:
    return RunConfig.model_validate({"subject": {"images": str(pictures)}})


def test_containers_are_restricted_and_see_only_what_they_need(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    environment = {
        "BOOTHLINE_S3_ENDPOINT": "http://127.0.0.1:8333",
        "BOOTHLINE_HOME": "/somewhere",
        "AWS_SECRET_ACCESS_KEY": "other",
    }
    run = tmp_path / "20260101-000000-0000"
    made = run_arguments(run, config_of(pictures), environment)
    assert made["read_only"] is True
    assert made["cap_drop"] == ["ALL"]
    assert made["security_opt"] == ["no-new-privileges"]
    assert made["environment"]["BOOTHLINE_S3_ENDPOINT"] == "http://127.0.0.1:8333"
    assert made["environment"]["BOOTHLINE_HOME"] == "/scratch/home"
    assert "AWS_SECRET_ACCESS_KEY" not in made["environment"]
    mounts = {mount["Target"]: mount["ReadOnly"] for mount in made["mounts"]}
    assert mounts == {str(run): False, str(pictures): True}
    assert made["labels"] == {"boothline.run": run.name}
    assert made["user"].partition(":")[0] == str(os.getuid() or NOBODY)
    assert made["environment"]["HF_HUB_OFFLINE"] == "1"


def test_arguments_are_those_that_kfps_docker_runner_takes(tmp_path: Path) -> None:
    from kfp import local

    made = run_arguments(tmp_path, config_of(tmp_path), {})
    assert local.DockerRunner(**made).container_run_args == made


def test_remote_pictures_are_not_mounted() -> None:
    assert local_paths(RunConfig.model_validate({"subject": {"images": "s3://b/p/"}})) == []


@pytest.mark.parametrize("name", [*PATHS, *MODELS])
def test_whatever_a_configuration_names_on_this_machine_is_mounted(
    tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "named"
    folder.mkdir()
    section, setting = name.split(".")
    values = {"subject": {"images": "s3://b/p/"}}
    values.setdefault(section, {})[setting] = str(folder)
    if name == "evaluation.prompts_file":
        values["evaluation"]["prompt_set"] = "file"
    assert local_paths(RunConfig.model_validate(values)) == [folder]


def test_folder_remembers_the_profile_for_resume(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "20260101-000000-0000")
    assert not folder.in_containers
    folder.use_containers()
    assert folder_of(tmp_path, "20260101-000000-0000").in_containers


def test_missing_docker_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    with pytest.raises(ServiceError, match="Docker does not answer"):
        check_images(("boothline/tools:1",))


def test_container_that_fails_at_once_is_a_failure_with_a_log(tmp_path: Path) -> None:
    launcher = ContainerLauncher(tmp_path / "logs", run_id="20260101-000000-0000")
    docker = FakeDocker()
    code = launcher.run_container(docker, "i:1", command_of("train"), {}, read_only=True)
    assert code == 3
    assert (tmp_path / "logs" / "train.log").read_text() == "no such picture\n"
    assert docker.container.removed
    (started,) = docker.started
    assert started["read_only"] is True
    assert started["detach"] is True
    # Docker would remove it before its status is read.
    assert "auto_remove" not in started


def test_launcher_that_is_stopping_starts_no_container(tmp_path: Path) -> None:
    launcher = ContainerLauncher(tmp_path / "logs", run_id="20260101-000000-0000")
    launcher.stopping = True
    docker = FakeDocker()
    assert launcher.run_container(docker, "i:1", command_of("train"), {}) != 0
    assert docker.started == []


def test_kfp_starts_containers_through_the_function_that_the_launcher_replaces() -> None:
    from kfp.local import docker_task_handler

    names = list(inspect.signature(docker_task_handler.run_docker_container).parameters)
    assert names == ["client", "image", "command", "volumes", "container_run_args"]
    assert names[:4] == list(inspect.signature(ContainerLauncher.run_container).parameters)[1:5]
    assert "run_docker_container(" in inspect.getsource(docker_task_handler.DockerTaskHandler.run)


def test_pictures_that_only_root_can_read_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = tmp_path / "pictures" / "0.png"
    picture.parent.mkdir(mode=0o755)
    picture.touch(mode=0o600)
    monkeypatch.setattr(os, "getuid", lambda: 0)
    with pytest.raises(ConfigError, match=r"0\.png can be read by its owner only"):
        check_readable(config_of(picture.parent))
    picture.chmod(0o644)
    check_readable(config_of(picture.parent))
