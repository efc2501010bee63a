"""What this machine lacks for a run is said before the run, not hours into it."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from boothline.config import RunConfig
from boothline.doctor import libraries
from boothline.errors import ConfigError
from boothline.launch import needs
from boothline.settings import Settings


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any optional library and without CUDA."""
    import torch

    found = importlib.util.find_spec
    optional = {"prodigyopt", "lion_pytorch", "bitsandbytes", "tensorboardX", "wandb"}
    optional.add("model_signing")
    monkeypatch.setattr(
        libraries, "find_spec", lambda name: None if name in optional else found(name)
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.proves("F71/machine")
@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("sections", "said"),
    [
        (
            {"training": {"optimizer": "prodigy", "learning_rate": 1.0}},
            ["training.optimizer prodigy needs the library prodigyopt"],
        ),
        ({"training": {"optimizer": "lion"}}, ["training.optimizer lion needs the library lion_"]),
        (
            {"training": {"optimizer": "adamw8bit"}},
            [
                "training.optimizer adamw8bit needs the library bitsandbytes",
                "training.optimizer adamw8bit needs a CUDA device",
            ],
        ),
        ({"training": {"precision": "fp16"}}, ["training.precision fp16 needs a CUDA device"]),
        (
            {"prior": {"sampling": {"precision": "fp16"}}},
            ["prior.sampling.precision fp16 needs a CUDA device"],
        ),
        (
            {"training": {"method": "lora", "precision": "bf16", "frozen_precision": "nf4"}},
            [
                "training.frozen_precision nf4 needs the library bitsandbytes",
                "training.frozen_precision nf4 needs a CUDA device",
            ],
        ),
        ({"tracking": {"tensorboard": True}}, ["tracking.tensorboard needs the library tensorbo"]),
        ({"tracking": {"wandb": True}}, ["tracking.wandb needs the library wandb"]),
        ({}, []),
    ],
)
def test_lacking_names_the_setting_and_the_library(
    sections: dict[str, Any], said: list[str]
) -> None:
    config = RunConfig.model_validate(sections)
    found = [f"{need.setting} {need.message}" for need in needs.lacking(config, Settings())]
    assert len(found) == len(said)
    assert all(text.startswith(start) for text, start in zip(found, said, strict=True))
    if said:
        with pytest.raises(ConfigError, match=said[0]) as caught:
            needs.check_needs(config, Settings(), pipeline="dreambooth")
        assert caught.value.remedy


@pytest.mark.usefixtures("bare")
def test_lacking_names_keys_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "there.pem").write_text("key")
    settings = Settings(signing_key=tmp_path / "no.pem", verification_key=tmp_path / "there.pem")
    found = [f"{need.setting} {need.message}" for need in needs.lacking(RunConfig(), settings)]
    assert found == [
        "BOOTHLINE_SIGNING_KEY needs the library model_signing, which is not installed here",
        f"BOOTHLINE_SIGNING_KEY names {tmp_path / 'no.pem'}, which cannot be read: No such file or "
        "directory",
    ]


@pytest.mark.proves("F48/signed")
def test_training_that_would_publish_unsigned_where_signatures_are_asked_for_is_refused(
    tmp_path: Path,
) -> None:
    key = tmp_path / "key.pem"
    key.write_text("key")
    asking = Settings(verification_key=key)
    with pytest.raises(ConfigError, match="would publish one without a signature") as caught:
        needs.check_needs(RunConfig(), asking, pipeline="sweep")
    assert "BOOTHLINE_SIGNING_KEY" in caught.value.remedy
    needs.check_needs(RunConfig(), asking, pipeline="batch_inference")
    signing = asking.model_copy(update={"signing_key": key})
    needs.check_needs(RunConfig(), signing, pipeline="sweep")
