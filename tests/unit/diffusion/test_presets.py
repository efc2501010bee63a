"""Settings that `init` writes for a base: a run with them starts, in every family."""

import pytest

from boothline.config import RunConfig
from boothline.config.sampling import SamplingConfig
from boothline.diffusion.families import FAMILIES, STABLE_DIFFUSION
from boothline.diffusion.layout import check_config
from boothline.diffusion.presets import (
    CLIP,
    DINO,
    check_fit,
    fitting_sampling,
    fitting_values,
    usual_px,
)

GUIDANCE = {"StableDiffusionPipeline": 7.5, "FluxPipeline": 3.5}


def written(values: dict[str, object]) -> RunConfig:
    """Return the configuration of dotted settings."""
    nested: dict[str, object] = {}
    for name, value in values.items():
        *sections, last = name.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})  # type: ignore[assignment]
        place[last] = value
    return RunConfig.model_validate(nested)


@pytest.mark.parametrize("pipeline", FAMILIES)
def test_settings_written_for_a_family_fit_it(pipeline: str) -> None:
    family = FAMILIES[pipeline]
    config = written(dict(fitting_values(family, "base:x", 512, dino=DINO, clip=CLIP)))
    check_config(family, config)
    check_fit(config, 512)
    default = RunConfig().inference.sampling.guidance_scale
    for section in (config.prior, config.evaluation, config.inference):
        assert section.sampling.guidance_scale == GUIDANCE.get(pipeline, default)
    assert config.training.train_text_encoder is (family is STABLE_DIFFUSION)


def test_settings_written_for_a_small_base_are_its_size_alone() -> None:
    values = fitting_values(STABLE_DIFFUSION, "base:x", 64, dino=DINO, clip=CLIP)
    assert values == {"base_model.source": "base:x", "subject.resolution_px": 64}


def test_usual_px_of_flow_bases_that_do_not_say_is_1024() -> None:
    flux = FAMILIES["FluxPipeline"]
    assert [usual_px(flux, native) for native in (None, 32)] == [1024, 32]
    assert [usual_px(STABLE_DIFFUSION, native) for native in (None, 512)] == [None, 512]


@pytest.mark.parametrize("pipeline", FAMILIES)
def test_sampling_that_nobody_chose_fits_the_family(pipeline: str) -> None:
    family, default = FAMILIES[pipeline], SamplingConfig()
    fitting = fitting_sampling(family, SamplingConfig(num_steps=3))
    assert fitting.sampler in family.samplers
    assert fitting.num_steps == 3
    if family.is_flow:
        usual = family.usual_guidance or default.guidance_scale
        assert (fitting.sampler, fitting.guidance_scale) == ("euler", usual)
    else:
        assert fitting == SamplingConfig(num_steps=3)


def test_sampling_that_somebody_chose_stays() -> None:
    flux = FAMILIES["FluxPipeline"]
    chosen = SamplingConfig(sampler="ddim", guidance_scale=1.5)
    assert fitting_sampling(flux, chosen) == chosen
    assert fitting_sampling(flux, SamplingConfig(guidance_scale=1.5)).guidance_scale == 1.5
    named = fitting_sampling(flux, SamplingConfig(sampler="euler"))
    assert named.guidance_scale == GUIDANCE["FluxPipeline"]  # as where nobody names it
