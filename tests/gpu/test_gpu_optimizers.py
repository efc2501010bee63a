"""8-bit AdamW: its states of 8 bits go through a training state to the bit."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from boothline.config import RunConfig
from boothline.training.denoiser import Denoiser
from boothline.training.job import SubjectFolders, TrainingJob
from boothline.training.optimizing import build_optimizer, set_learning_rate
from boothline.training.states import TrainedParts

SIDE = 128  # weights of fewer than 4,096 numbers keep their states in 32 bits


class EightBits(torch.optim.Optimizer):
    """Stands in for bitsandbytes' AdamW8bit: states of the same names, kinds and types.

    The first moment is kept in 8 bits with one scale a row; the second is left in 32 bits.
    """

    def __init__(self, params: Any, *, betas: tuple[float, float], weight_decay: float) -> None:
        super().__init__(params, {"lr": 1e-3, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for weight in group["params"]:
                self._update(weight, group["lr"], beta1, beta2)

    def _update(self, weight: torch.Tensor, rate: float, beta1: float, beta2: float) -> None:
        state = self.state[weight]
        if not state:
            state["step"] = 0
            state["qmap1"] = torch.linspace(-1, 1, 256)
            state["state1"] = torch.full_like(weight, 127, dtype=torch.uint8)
            state["absmax1"] = torch.zeros(1)
            state["state2"] = torch.zeros_like(weight)
        state["step"] += 1
        first = state["qmap1"][state["state1"].int()] * state["absmax1"]
        first = beta1 * first + (1 - beta1) * weight.grad
        state["absmax1"].copy_(first.abs().max())
        scaled = first / state["absmax1"].clamp_min(1e-12)
        state["state1"].copy_(((scaled + 1) * 127.5).round().to(torch.uint8))
        state["state2"].mul_(beta2).add_((1 - beta2) * weight.grad.square())
        weight.sub_(rate * first / (state["state2"].sqrt() + 1e-8))


@pytest.fixture
def eight_bits(on_cpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """bitsandbytes, or its stand-in on a CPU."""
    if not on_cpu:
        pytest.importorskip("bitsandbytes", reason="needs the extra optimizers")
        return
    library = ModuleType("bitsandbytes")
    library.optim = SimpleNamespace(AdamW8bit=EightBits)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bitsandbytes", library)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


class SmallTraining:
    """A training of two layers on a device; all of its draws are fixed."""

    def __init__(self, job: TrainingJob, device: torch.device) -> None:
        torch.manual_seed(0)
        self._config = job.config.training
        unet, text_encoder = nn.Linear(SIDE, SIDE), nn.Linear(SIDE, 1)
        denoiser = Denoiser(unet, {"text_encoder": text_encoder}).to(device)
        self._inputs = torch.randn(8, SIDE).to(device)
        optimizer = build_optimizer(denoiser, self._config)
        self.parts = TrainedParts(denoiser=denoiser, optimizer=optimizer)

    def steps(self, first: int, last: int) -> None:
        networks = self.parts.denoiser.networks()
        for step in range(first, last):
            set_learning_rate(self.parts.optimizer, step=step, config=self._config)
            hidden = networks["unet"](self._inputs).tanh()
            errors = networks["text_encoder"](hidden) - self._inputs.sum(1, keepdim=True)
            errors.square().mean().backward()
            self.parts.optimizer.step()
            self.parts.optimizer.zero_grad()


@pytest.mark.usefixtures("eight_bits")
@pytest.mark.proves("F23/adamw8bit")
def test_state_of_eight_bits_is_saved_and_restored_to_the_bit(
    tmp_path: Path, device: torch.device
) -> None:
    job = TrainingJob(
        config=RunConfig.model_validate({"training": {"optimizer": "adamw8bit"}}),
        world_size=1,
        base_model=tmp_path,
        base_model_digest="b",
        pictures=[SubjectFolders(instance=tmp_path)],
        data_digest="d",
        states="training/k",
        folder=tmp_path,
    )
    whole, cut = SmallTraining(job, device), SmallTraining(job, device)
    whole.steps(0, 6)
    cut.steps(0, 3)
    snapshot = cut.parts.snapshot(3, job=job)
    slots = snapshot.tensors["optimizer.safetensors"]
    assert slots["unet.weight/state1"].dtype == torch.uint8
    folder = tmp_path / "state"
    for file, value in snapshot.draft(folder).files.items():
        if isinstance(value, bytes):
            (folder / file).write_bytes(value)
    resumed = SmallTraining(job, device)
    resumed.steps(0, 1)  # what it did before is overwritten
    assert resumed.parts.restore(folder, job=job) == 3
    resumed.steps(3, 6)
    ours, theirs = (t.parts.snapshot(6, job=job) for t in (resumed, whole))
    assert ours.documents == theirs.documents
    for file, tensors in theirs.tensors.items():
        assert ours.tensors[file].keys() == tensors.keys()
        for key, tensor in tensors.items():
            assert torch.equal(ours.tensors[file][key], tensor), (file, key)
