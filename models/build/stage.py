"""Trains one stage in resumable steps: step i depends on the seed and on i alone."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from boothline.diffusion.devices import has_fast_bfloat16
from models.build.recipe import Training

logger = logging.getLogger(__name__)

_LOG_EVERY_STEPS = 50


class Objective(Protocol):
    """What a stage trains: its modules and the loss of one step."""

    modules: Mapping[str, nn.Module]

    def loss(self, draw: StepDraw) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the loss of one step and figures for the log."""


class StepDraw:
    """The randomness of one step, a function of (seed, step) only.

    Args:
        seed: of the recipe.
        step: number of the step.
        device: where tensors are needed.
    """

    def __init__(self, seed: int, *, step: int, device: torch.device) -> None:
        self.step = step
        self.device = device
        self.rng = np.random.default_rng([seed, 77, step])
        self._generator = torch.Generator().manual_seed(int(self.rng.integers(2**62)))

    def normal(self, *shape: int) -> torch.Tensor:
        """Return standard normal noise, float32, of the shape."""
        return torch.randn(shape, generator=self._generator).to(self.device)

    def uniform(self, *shape: int) -> torch.Tensor:
        """Return uniform noise in [0, 1), float32, of the shape."""
        return torch.rand(shape, generator=self._generator).to(self.device)

    def indices(self, count: int, *, below: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return `count` indices in [0, below)."""
        return self.rng.integers(0, below, count)


def training_device() -> torch.device:
    """Return the CUDA device where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def learning_rate_at(step: int, *, plan: Training) -> float:
    """Return the learning rate of a step: linear warm-up, then cosine to a hundredth."""
    if step < plan.warmup_steps:
        return plan.learning_rate * (step + 1) / plan.warmup_steps
    progress = (step - plan.warmup_steps) / max(1, plan.num_steps - plan.warmup_steps)
    return plan.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def save_state(state: dict[str, Any], *, path: Path) -> None:
    """Write a training state so that the file is the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as stream:
        torch.save(state, stream)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)


def load_state(path: Path) -> dict[str, Any]:
    """Return a training state: tensors and plain values, never pickled code."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _channels_last(tensor: torch.Tensor) -> torch.Tensor:
    """Return a convolution's tensor laid out channels last, which is faster; others as they are."""
    if tensor.dim() != 4:
        return tensor
    return tensor.contiguous(memory_format=torch.channels_last)


class StageTrainer:
    """Runs the steps of one stage, keeping a state on disk from which it continues.

    Args:
        name: of the stage, for the log and the tracker.
        objective: modules and loss.
        plan: how long and how fast.
        seed: of every draw.
        state_path: the training state's file.
        save_every_seconds: wall-clock time between states.
        deadline: `time.monotonic()` at which the stage stops and saves, whatever step it reached.
    """

    def __init__(
        self,
        name: str,
        *,
        objective: Objective,
        plan: Training,
        seed: int,
        state_path: Path,
        save_every_seconds: float = 120.0,
        deadline: float = math.inf,
        bfloat16: bool = True,
    ) -> None:
        self.name = name
        self.objective = objective
        self.plan = plan
        self.seed = seed
        self.state_path = state_path
        self.save_every_seconds = save_every_seconds
        self.deadline = deadline
        self.device = training_device()
        self.bfloat16 = bfloat16 and has_fast_bfloat16(self.device)
        self.modules = nn.ModuleDict(objective.modules).to(self.device)
        for weight in self.modules.parameters():
            weight.data = _channels_last(weight.data)
        named = [(name, p) for name, p in self.modules.named_parameters() if p.requires_grad]
        self.parameter_names = [name for name, _ in named]
        self.parameters = [parameter for _, parameter in named]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=plan.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=plan.weight_decay,
            fused=True,
        )
        self.average: list[torch.Tensor] = []
        if plan.ema_decay > 0:
            self.average = [parameter.detach().clone() for parameter in self.parameters]
        self.step = 0
        self.seconds = 0.0

    def restore(self) -> bool:
        """Resume from the state on disk; return whether there was one.

        A state from a parcel has no optimiser: its moments begin again.
        """
        if not self.state_path.is_file():
            return False
        state = load_state(self.state_path)
        self.modules.load_state_dict(state["modules"])
        if "optimizer" in state:
            self.optimizer.load_state_dict(state["optimizer"])
        for moments in self.optimizer.state.values():  # laid out like their weights
            moments.update({name: _channels_last(value) for name, value in moments.items()})
        for average, saved in zip(self.average, state["average"], strict=True):
            average.copy_(saved)
        self.step = int(state["step"])
        self.seconds = float(state.get("seconds", 0.0))
        return True

    def save(self) -> None:
        """Write the state of the step reached."""
        save_state(
            {
                "step": self.step,
                "seconds": self.seconds,
                "modules": self.modules.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.average,
                "parameter_names": self.parameter_names,
            },
            path=self.state_path,
        )

    def run(self, *, until_step: int | None = None) -> None:
        """Train to the end of the plan, or to an earlier step, and save the state."""
        resumed = self.restore()
        last = min(until_step or self.plan.num_steps, self.plan.num_steps)
        logger.info("%s: step %d of %d, resumed=%s", self.name, self.step, last, resumed)
        saved_at = logged_at = time.monotonic()
        logged_step = self.step
        now = saved_at
        while self.step < last and now < self.deadline:
            figures = self.train_step()
            self.seconds += time.monotonic() - now
            now = time.monotonic()
            if self.step % _LOG_EVERY_STEPS == 0:
                pace = (now - logged_at) / max(1, self.step - logged_step)
                logged_at, logged_step = now, self.step
                self._report({**figures, "seconds_per_step": pace})
            if now - saved_at > self.save_every_seconds:
                self.save()
                saved_at = now
        self.save()

    def train_step(self) -> dict[str, float]:
        """Take one optimiser step and return its figures."""
        rate = learning_rate_at(self.step, plan=self.plan)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        draw = StepDraw(self.seed, step=self.step, device=self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            loss, figures = self.objective.loss(draw)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.step += 1
        self._update_average()
        return {"loss": float(loss.detach()), "learning_rate": rate, **figures}

    def _update_average(self) -> None:
        if not self.average:
            return
        decay = min(self.plan.ema_decay, (1 + self.step) / (10 + self.step))
        detached = [parameter.detach() for parameter in self.parameters]
        torch._foreach_lerp_(self.average, detached, 1 - decay)

    def use_average(self) -> None:
        """Put the averaged weights into the modules, where the plan keeps any."""
        for parameter, average in zip(self.parameters, self.average, strict=False):
            parameter.data.copy_(average)

    def _report(self, figures: dict[str, float]) -> None:
        text = " ".join(f"{key}={value:.4g}" for key, value in figures.items())
        logger.info("%s: step %d/%d %s", self.name, self.step, self.plan.num_steps, text)
        if os.environ.get("MLFLOW_TRACKING_URI"):
            import mlflow

            mlflow.log_metrics(
                {f"{self.name}/{key}": value for key, value in figures.items()}, step=self.step
            )
