"""What a job checks, what its states must agree on, and what the result depends on."""

from pathlib import Path
from typing import Any

import pytest

from boothline.config import RunConfig
from boothline.errors import ConfigError
from boothline.training.job import TrainingJob, result_config


def make_job(tmp_path: Path, *, world_size: int = 2, **training: Any) -> TrainingJob:
    return TrainingJob(
        config=RunConfig.model_validate({"training": training}),
        world_size=world_size,
        base_model=tmp_path,
        base_model_digest="b",
        instance=tmp_path,
        priors=(tmp_path,),
        data_digest="d",
        states="training/k",
        folder=tmp_path,
    )


def test_job_with_an_uneven_batch_names_the_knob(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"training\.batch_size \(4\).*multiple of 3"):
        make_job(tmp_path, world_size=3)


def test_job_saved_and_loaded_is_equal(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    assert TrainingJob.load(job.save()) == job


def test_job_without_prior_weight_has_no_prior_half(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    config = RunConfig.model_validate({"prior": {"weight": 0}})
    assert job.has_prior
    assert not job.model_copy(update={"config": config}).has_prior


@pytest.mark.parametrize(
    "change",
    [
        {"training": {"sample_every_steps": 7}},
        {"training": {"caches": False}},
        {"training": {"num_processes": 1}},
        {"checkpoints": {"every_steps": 7}},
        {"evaluation": {"num_bootstrap": 500}},
        {"training": {"lora": {"rank": 2}}},
    ],
)
def test_result_config_leaves_out_what_does_not_change_the_weights(change: dict[str, Any]) -> None:
    plain = result_config(RunConfig(), world_size=2)
    assert result_config(RunConfig.model_validate(change), world_size=2) == plain


@pytest.mark.parametrize(
    "change",
    [
        {"training": {"learning_rate": 1e-6}},
        {"training": {"seed": 1}},
        {"prior": {"weight": 0.5}},
        {"prior": {"enabled": False}},
        {"subject": {"resolution_px": 128}},
    ],
)
def test_result_config_holds_what_changes_the_weights(change: dict[str, Any]) -> None:
    plain = result_config(RunConfig(), world_size=2)
    assert result_config(RunConfig.model_validate(change), world_size=2) != plain
    assert result_config(RunConfig(), world_size=1) != plain
