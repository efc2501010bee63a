"""Turns a sampler's name into the diffusers scheduler that carries it out."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    SchedulerMixin,
    UniPCMultistepScheduler,
)

from boothline.config.sampling import SamplerName, SamplingConfig
from boothline.diffusion import counters

_SAMPLERS: dict[SamplerName, tuple[Any, dict[str, object]]] = {
    "ddpm": (DDPMScheduler, {"clip_sample": False}),
    "ddim": (DDIMScheduler, {"clip_sample": False}),
    "pndm": (PNDMScheduler, {"skip_prk_steps": True}),
    "dpmpp_2m": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "dpmpp_2m_karras": (
        DPMSolverMultistepScheduler,
        {"algorithm_type": "dpmsolver++", "solver_order": 2, "use_karras_sigmas": True},
    ),
    "euler": (EulerDiscreteScheduler, {}),
    "euler_a": (EulerAncestralDiscreteScheduler, {}),
    "unipc": (UniPCMultistepScheduler, {}),
}


def make_scheduler(
    noise_schedule: DDPMScheduler,
    sampling: SamplingConfig,
    *,
    device: str | torch.device = "cpu",
) -> SchedulerMixin:
    """Return a new scheduler with its timesteps set.

    Args:
        noise_schedule: the model's `DDPMScheduler`; its betas and prediction type are taken over.
        sampling: names the sampler and the number of steps.
        device: where the timesteps go.
    """
    cls, overrides = _SAMPLERS[sampling.sampler]
    scheduler = cls.from_config(noise_schedule.config, **overrides)
    scheduler.set_timesteps(sampling.num_steps, device=device)
    return scheduler


def is_stochastic(sampling: SamplingConfig) -> bool:
    """Return whether the sampler draws noise in its steps, in addition to the start noise."""
    return sampling.sampler in ("ddpm", "euler_a") or (
        sampling.sampler == "ddim" and sampling.eta > 0
    )


def step_arguments(
    scheduler: SchedulerMixin, sampling: SamplingConfig, *, names: Sequence[tuple[int, int]]
) -> dict[str, object]:
    """Return the keyword arguments of `scheduler.step`: eta and one generator a picture.

    Args:
        scheduler: from `make_scheduler`.
        sampling: the settings it was made from.
        names: (seed, index) of each picture of the batch; step noise depends on these alone.
    """
    accepted = inspect.signature(scheduler.step).parameters
    arguments: dict[str, object] = {}
    if "eta" in accepted:
        arguments["eta"] = sampling.eta
    if "generator" in accepted and is_stochastic(sampling):
        arguments["generator"] = [_generator(seed, index) for seed, index in names]
    return arguments


def _generator(seed: int, index: int) -> torch.Generator:
    """Return the CPU generator of the step noise of picture (seed, index)."""
    key = counters.integers((), high=2**63 - 1, seed=seed, stream="sampling/steps", index=index)
    return torch.Generator().manual_seed(int(key))
