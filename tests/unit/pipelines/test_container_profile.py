"""What containers of a run are started with, and what is said where Docker is away."""

from pathlib import Path

import pytest

from boothline.config import RunConfig
from boothline.errors import ServiceError
from pipelines.local.containers import check_images, local_paths, run_arguments
from pipelines.local.folder import folder_of


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


def test_arguments_are_those_that_kfps_docker_runner_takes(tmp_path: Path) -> None:
    from kfp import local

    made = run_arguments(tmp_path, config_of(tmp_path), {})
    assert local.DockerRunner(**made).container_run_args == made


def test_remote_pictures_are_not_mounted() -> None:
    assert local_paths(RunConfig.model_validate({"subject": {"images": "s3://b/p/"}})) == []


def test_folder_remembers_the_profile_for_resume(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "20260101-000000-0000")
    assert not folder.in_containers
    folder.use_containers()
    assert folder_of(tmp_path, "20260101-000000-0000").in_containers


def test_missing_docker_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    with pytest.raises(ServiceError, match="Docker does not answer"):
        check_images(("boothline/tools:1",))
