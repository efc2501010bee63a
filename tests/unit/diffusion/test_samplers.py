"""Samplers by name."""

from typing import get_args

import pytest

from boothline.config.sampling import SamplerName, SamplingConfig
from boothline.diffusion.loading import DiffusionParts
from boothline.diffusion.samplers import is_stochastic, make_scheduler, step_arguments

CLASSES = {
    "ddpm": "DDPMScheduler",
    "ddim": "DDIMScheduler",
    "pndm": "PNDMScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "dpmpp_2m_karras": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
    "unipc": "UniPCMultistepScheduler",
}


@pytest.mark.proves("F13")
@pytest.mark.parametrize("name", get_args(SamplerName))
def test_make_scheduler_each_name_takes_over_the_noise_schedule(
    tiny_parts: DiffusionParts, name: SamplerName
) -> None:
    sampling = SamplingConfig(sampler=name, num_steps=7)
    scheduler = make_scheduler(tiny_parts.scheduler, sampling)
    assert type(scheduler).__name__ == CLASSES[name]
    assert scheduler.config.beta_end == tiny_parts.scheduler.config.beta_end
    # The linear multistep sampler takes one step twice to start.
    assert len(scheduler.timesteps) == (8 if name == "pndm" else 7)


@pytest.mark.proves("F13")
def test_make_scheduler_karras_spaces_its_steps_otherwise(tiny_parts: DiffusionParts) -> None:
    plain, karras = (
        make_scheduler(tiny_parts.scheduler, SamplingConfig(sampler=name)).timesteps.tolist()
        for name in ("dpmpp_2m", "dpmpp_2m_karras")
    )
    assert plain != karras


@pytest.mark.parametrize(
    ("name", "eta", "stochastic"),
    [("ddpm", 0, True), ("euler_a", 0, True), ("ddim", 0, False), ("ddim", 0.5, True)],
)
def test_step_arguments_stochastic_samplers_get_a_generator_a_picture(
    tiny_parts: DiffusionParts, name: SamplerName, eta: float, stochastic: bool
) -> None:
    sampling = SamplingConfig(sampler=name, eta=eta)
    scheduler = make_scheduler(tiny_parts.scheduler, sampling)
    names = [(1, 0), (1, 1), (1, 0)]
    generators = step_arguments(scheduler, sampling, names=names).get("generator")
    assert is_stochastic(sampling) == stochastic
    assert (generators is not None) == stochastic
    if generators:
        first, second, again = (g.initial_seed() for g in generators)
        assert first == again != second
