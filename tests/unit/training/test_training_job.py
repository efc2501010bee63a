"""What a job checks, what its states must agree on, and what the result depends on."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from boothline.config import RunConfig
from boothline.errors import ConfigError
from boothline.training.job import SubjectFolders, TrainingJob, result_config
from boothline.trainjob.files import _folders, _received


def make_job(tmp_path: Path, *, world_size: int = 2, **training: Any) -> TrainingJob:
    return TrainingJob(
        config=RunConfig.model_validate({"training": training}),
        world_size=world_size,
        base_model=tmp_path,
        base_model_digest="b",
        pictures=[SubjectFolders(instance=tmp_path, priors=(tmp_path,))],
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
        {"evaluation": {"subject_weight": 0.1}},
        {"training": {"validation": {"num_draws": 2}}},
        {"training": {"lora": {"rank": 2}}},
    ],
)
def test_result_config_leaves_out_what_does_not_change_the_weights(change: dict[str, Any]) -> None:
    plain = result_config(RunConfig(), world_size=2)
    assert result_config(RunConfig.model_validate(change), world_size=2) == plain


def test_result_config_of_the_defaults_keeps_the_keys_of_former_results() -> None:
    """Settings that came later are left out at their default: else nothing would be reused."""
    assert sorted(result_config(RunConfig(), world_size=2)["training"]) == [
        "accumulation", "batch_size", "beta1", "beta2", "ema_decay", "gradient_checkpointing",
        "horizontal_flip", "learning_rate", "max_grad_norm", "method", "min_snr_gamma",
        "noise_offset", "num_steps", "optimizer", "precision", "schedule", "seed",
        "text_encoder_learning_rate", "train_text_encoder", "warmup_steps", "weight_decay",
    ]  # fmt: skip


def test_result_config_with_validation_holds_what_judges() -> None:
    configs = [
        RunConfig.model_validate(
            {
                "training": {"validation": {"every_steps": 5, **validation}},
                "evaluation": {"subject_weight": weight},
            }
        )
        for validation, weight in (({}, 0.5), ({"choose": "best"}, 0.5), ({}, 0.1))
    ]
    assert len({str(result_config(config, world_size=1)) for config in configs}) == 3


@pytest.mark.parametrize("setting", [{"hold_out": 1}, {"choose": "best"}, {"patience": 2}])
def test_validation_settings_without_validations_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"set training\.validation\.every_steps"):
        RunConfig.model_validate({"training": {"validation": setting}})


def test_result_config_of_adapters_holds_their_settings() -> None:
    configs = [
        RunConfig.model_validate({"training": {"method": "lora", "lora": lora}})
        for lora in ({}, {"rank": 2}, {"targets": ["to_q"]}, {"dora": True})
    ]
    digests = [str(result_config(config, world_size=1)) for config in configs]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize(
    "change",
    [
        {"training": {"learning_rate": 1e-6}},
        {"training": {"seed": 1}},
        {"training": {"huber_delta": 0.1}},
        {"training": {"validation": {"every_steps": 5}}},
        {"training": {"scale_learning_rate": True}},
        {"training": {"optimizer": "lion"}},
        {"training": {"deterministic": True}},
        {"prior": {"weight": 0.5}},
        {"prior": {"enabled": False}},
        {"subject": {"resolution_px": 128}},
    ],
)
def test_result_config_holds_what_changes_the_weights(change: dict[str, Any]) -> None:
    plain = result_config(RunConfig(), world_size=2)
    assert result_config(RunConfig.model_validate(change), world_size=2) != plain
    assert result_config(RunConfig(), world_size=1) != plain


def test_result_config_says_that_frozen_weights_are_sharded() -> None:
    plain, cut = (
        result_config(
            RunConfig.model_validate({"training": {"method": "lora", "shard_frozen": cut}}),
            world_size=2,
        )
        for cut in (False, True)
    )
    assert cut != plain


def test_job_of_two_subjects_arrives_on_a_node_with_the_folders_of_each(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    two = job.model_copy(
        update={
            "pictures": (
                SubjectFolders(instance=tmp_path / "a", priors=(tmp_path / "b", tmp_path / "c")),
                SubjectFolders(instance=tmp_path / "d", priors=(tmp_path / "e",)),
            )
        }
    )
    names = ["instance", "prior-000", "prior-001", "subject-1/instance", "subject-1/prior-000"]
    assert [name for name, _ in _folders(two)] == names
    assert [folder.name for _, folder in _folders(two)] == ["a", "b", "c", "d", "e"]
    first, second = _received(two, tmp_path)
    assert first.priors == (tmp_path / "prior-000", tmp_path / "prior-001")
    assert second == SubjectFolders(
        instance=tmp_path / "subject-1/instance", priors=(tmp_path / "subject-1/prior-000",)
    )
