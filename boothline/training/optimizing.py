"""The optimizers over named parameter groups, the learning rate of a step, averaged weights."""

import contextlib
import importlib
import io
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

from boothline.config.training import TrainingConfig
from boothline.diffusion.tokens import LEARNT
from boothline.errors import ConfigError
from boothline.training.denoiser import Denoiser


class WeightAverage:
    """Averages parameters: average <- decay x average + (1 - decay) x parameter.

    The decay is held below (1 + n) / (10 + n) in update n, so that the start is forgotten soon.

    Args:
        parameters: the trained parameters by name.
        decay: weight of the former average, in (0, 1).
    """

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter], *, decay: float) -> None:
        self._parameters = dict(parameters)
        self._decay = decay
        self.averages = {name: p.detach().clone() for name, p in self._parameters.items()}

    def update(self, step: int) -> None:
        """Take in the parameters after optimizer step `step`, counted from 0."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(
            list(self.averages.values()),
            [p.detach() for p in self._parameters.values()],
            1 - decay,
        )

    def restore(self, averages: Mapping[str, torch.Tensor]) -> None:
        """Take over stored averages."""
        for name, average in self.averages.items():
            average.copy_(averages[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages in the parameters' place for a while."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._parameters.items():
            current = parameter.detach().clone()
            parameter.copy_(self.averages[name])
            self.averages[name].copy_(current)


def build_optimizer(denoiser: Denoiser, config: TrainingConfig) -> torch.optim.Optimizer:
    """Return the optimizer with one group per network; `peak_lr` and `names` are kept in each.

    The fused kernel of AdamW is 3 times faster than the foreach one on CPUs and takes no extra
    memory.

    Raises:
        ConfigError: the optimizer's library or device is missing.
    """
    groups = _groups(denoiser, config)
    betas = (config.beta1, config.beta2)
    decay = config.weight_decay
    if config.optimizer == "adafactor":
        return torch.optim.Adafactor(groups, weight_decay=decay)
    if config.optimizer == "prodigy":
        library = _library("prodigyopt", config)
        with contextlib.redirect_stdout(io.StringIO()):  # it prints that decay is decoupled
            return _built(library.Prodigy(groups, betas=betas, weight_decay=decay))
    if config.optimizer == "lion":
        library = _library("lion_pytorch", config)
        return _built(library.Lion(groups, betas=betas, weight_decay=decay))
    if config.optimizer == "adamw8bit":
        if not torch.cuda.is_available():
            raise ConfigError(
                "training.optimizer adamw8bit needs a CUDA device, and there is none.",
                remedy="Set training.optimizer to adamw, or to adafactor to save memory.",
            )
        library = _library("bitsandbytes", config)
        return _built(library.optim.AdamW8bit(groups, betas=betas, weight_decay=decay))
    return torch.optim.AdamW(groups, betas=betas, weight_decay=decay, fused=True)


def _groups(denoiser: Denoiser, config: TrainingConfig) -> list[dict[str, object]]:
    """Return the trained parameters of each network with their names and peak learning rate."""
    scale = config.batch_size if config.scale_learning_rate else 1
    groups = []
    for network, module in denoiser.networks().items():
        rate = _peak_rate(network, config) * scale
        named = {name: p for name, p in module.named_parameters() if p.requires_grad}
        groups.append(
            {
                "params": list(named.values()),
                "names": [f"{network}.{name}" for name in named],
                "peak_lr": rate,
                "lr": rate,
            }
        )
    return groups


def _peak_rate(network: str, config: TrainingConfig) -> float:
    """Return the peak learning rate of a network."""
    if network == LEARNT:
        return config.token_embedding.learning_rate
    if network.startswith("text_encoder"):
        return config.text_encoder_learning_rate or config.learning_rate
    return config.learning_rate


def _library(name: str, config: TrainingConfig) -> ModuleType:
    """Import an optional library."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"training.optimizer {config.optimizer} needs the library {name}: {error}.",
            remedy="Install the extra: pip install 'boothline[optimizers]'.",
        ) from error


def _built(optimizer: Any) -> torch.optim.Optimizer:  # noqa: ANN401  (libraries without types)
    built: torch.optim.Optimizer = optimizer
    return built


def rate_factor(step: int, config: TrainingConfig) -> float:
    """Return the learning rate of a step as a fraction of its peak, in [0, 1].

    Linear warm-up to the peak at step `warmup_steps`, then the schedule, which would reach 0 one
    step after the last. Polynomial has power 2.

    Args:
        step: optimizer step, counted from 0.
        config: warm-up, schedule and number of steps.
    """
    if step < config.warmup_steps:
        return (step + 1) / (config.warmup_steps + 1)
    progress = (step - config.warmup_steps) / max(config.num_steps - config.warmup_steps, 1)
    progress = min(progress, 1.0)
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    if config.schedule == "linear":
        return 1 - progress
    if config.schedule == "polynomial":
        return (1 - progress) ** 2
    return 1.0


def set_learning_rate(
    optimizer: torch.optim.Optimizer, *, step: int, config: TrainingConfig
) -> float:
    """Set every group's learning rate for a step and return the denoiser's."""
    factor = rate_factor(step, config)
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
    return float(optimizer.param_groups[0]["lr"])
