"""A training state gives back every optimizer to the bit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from boothline.config import RunConfig
from boothline.training.denoiser import Denoiser
from boothline.training.job import SubjectFolders, TrainingJob
from boothline.training.optimizing import WeightAverage, build_optimizer, set_learning_rate
from boothline.training.states import TrainedParts

INPUTS = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
RATES = {"prodigy": 1.0}


def job_of(tmp_path: Path, **training: Any) -> TrainingJob:
    return TrainingJob(
        config=RunConfig.model_validate({"training": training}),
        world_size=1,
        base_model=tmp_path,
        base_model_digest="b",
        pictures=[SubjectFolders(instance=tmp_path)],
        data_digest="d",
        states="training/k",
        folder=tmp_path,
    )


class SmallTraining:
    """A training of two small layers; all of its draws are fixed.

    Args:
        job: its settings.
        scaled: with a loss scaler, which overflows in every third step and skips it.
    """

    def __init__(self, job: TrainingJob, *, scaled: bool = False) -> None:
        torch.manual_seed(0)
        self._config = job.config.training
        unet, text_encoder = nn.Linear(3, 4), nn.Linear(4, 1)
        denoiser = Denoiser(unet, {"text_encoder": text_encoder})
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126, growth_interval=2, enabled=scaled)
        named = {
            f"{name}.{key}": p
            for name, net in denoiser.networks().items()
            for key, p in net.named_parameters()
        }
        self.parts = TrainedParts(
            denoiser=denoiser,
            optimizer=build_optimizer(denoiser, self._config),
            average=WeightAverage(named, decay=0.9),
            scaler=scaler if scaled else None,
        )
        self._scaler = scaler

    def steps(self, first: int, last: int) -> None:
        networks = self.parts.denoiser.networks()
        for step in range(first, last):
            set_learning_rate(self.parts.optimizer, step=step, config=self._config)
            hidden = networks["unet"](INPUTS).tanh()
            errors = networks["text_encoder"](hidden) - INPUTS.sum(1, keepdim=True)
            self._scaler.scale(errors.square().mean()).backward()
            self._scaler.step(self.parts.optimizer)
            self._scaler.update()
            self.parts.optimizer.zero_grad()
            assert self.parts.average is not None
            self.parts.average.update(step)


@pytest.mark.proves("F04/states")
@pytest.mark.parametrize("name", ["adamw", "adafactor", "prodigy", "lion", "adamw in fp16"])
def test_state_of_every_optimizer_goes_on_to_the_same_bits(tmp_path: Path, name: str) -> None:
    name, _, precision = name.partition(" in ")
    scaled = bool(precision)
    job = job_of(tmp_path, optimizer=name, learning_rate=RATES.get(name, 0.05), warmup_steps=2)
    whole = SmallTraining(job, scaled=scaled)
    whole.steps(0, 7)
    cut = SmallTraining(job, scaled=scaled)
    cut.steps(0, 4)
    snapshot = cut.parts.snapshot(4, job=job)
    folder = tmp_path / "state"
    for file, value in snapshot.draft(folder).files.items():
        if isinstance(value, bytes):
            (folder / file).write_bytes(value)
    resumed = SmallTraining(job, scaled=scaled)
    resumed.steps(0, 1)  # what it did before is overwritten
    assert resumed.parts.restore(folder, job=job) == 4
    resumed.steps(4, 7)
    ours, theirs = (t.parts.snapshot(7, job=job) for t in (resumed, whole))
    assert ours.documents == theirs.documents
    for file, tensors in theirs.tensors.items():
        assert ours.tensors[file].keys() == tensors.keys()
        for key, tensor in tensors.items():
            assert torch.equal(ours.tensors[file][key], tensor), (file, key)


def test_state_of_other_weights_is_refused(tmp_path: Path) -> None:
    denoiser = Denoiser(nn.Linear(3, 4), None)
    weights = denoiser.trained_weights()
    weights["unet.safetensors"] = {"weight": torch.zeros(1, 3), "bias": torch.zeros(4)}
    with pytest.raises(ValueError, match=r"unet\.safetensors holds other weights"):
        denoiser.take_over(weights)


def test_state_of_adapters_names_its_settings(tmp_path: Path) -> None:
    job = job_of(tmp_path, method="lora", lora={"rank": 3})
    snapshot = SmallTraining(job).parts.snapshot(1, job=job)
    assert snapshot.metadata["lora"]["rank"] == 3
    plain = job_of(tmp_path)
    assert "lora" not in SmallTraining(plain).parts.snapshot(1, job=plain).metadata
