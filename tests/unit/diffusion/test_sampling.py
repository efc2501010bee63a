"""Sampling: equal to plain diffusers, and independent of batches."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline
from unit.diffusion.peers import counted, plain_pipeline

from boothline.config.sampling import SamplerName, SamplingConfig
from boothline.diffusion.loading import DiffusionParts
from boothline.diffusion.sampling import SampleRequest, sample, start_noise
from boothline.errors import ConfigError

PROMPTS = ("a photo of a sks bear", "a dog on the beach", "a red cat")


def _requests(count: int, **changes: Any) -> list[SampleRequest]:
    requests = [
        SampleRequest(prompt=PROMPTS[i % len(PROMPTS)], seed=5, index=i) for i in range(count)
    ]
    return [replace(request, **changes) for request in requests]


def _bytes(
    parts: DiffusionParts, requests: list[SampleRequest], sampling: SamplingConfig
) -> list[bytes]:
    return [image.tobytes() for image in sample(parts, requests, sampling=sampling)]


@pytest.mark.proves("F12", "F13")
@pytest.mark.parametrize("name", ["dpmpp_2m", "ddim", "pndm", "euler", "unipc"])
@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
def test_sample_same_noise_equals_the_diffusers_pipeline(
    tiny_parts: DiffusionParts, name: SamplerName, guidance_scale: float
) -> None:
    sampling = SamplingConfig(
        sampler=name, num_steps=5, guidance_scale=guidance_scale, batch_size=3
    )
    requests = _requests(3, negative_prompt="blue")
    wanted = plain_pipeline(StableDiffusionPipeline, tiny_parts, sampling)(
        [request.prompt for request in requests],
        negative_prompt=[request.negative_prompt for request in requests],
        num_inference_steps=5,
        guidance_scale=guidance_scale,
        latents=start_noise(tiny_parts, requests),
        output_type="np",
    ).images
    got = np.stack([np.array(i) for i in sample(tiny_parts, requests, sampling=sampling)])
    levels = wanted * 255
    # Half a level of rounding, and float noise: text features are encoded prompt by prompt here.
    assert np.abs(got - levels).max() <= 0.5 + 0.01
    assert levels.std() > 1


@pytest.mark.parametrize("name", ["dpmpp_2m", "ddpm", "euler_a", "ddim"])
def test_sample_picture_is_the_same_in_any_batch_and_place(
    tiny_parts: DiffusionParts, name: SamplerName
) -> None:
    sampling = SamplingConfig(sampler=name, num_steps=3, eta=0.5, batch_size=4)
    requests = _requests(6)
    together = _bytes(tiny_parts, requests, sampling)
    assert len(set(together)) == 6
    assert _bytes(tiny_parts, requests[::-1], sampling) == together[::-1]
    assert _bytes(tiny_parts, requests[4:5], sampling) == together[4:5]
    assert _bytes(tiny_parts, requests[1::2], sampling) == together[1::2]


@pytest.mark.proves("F13")
@pytest.mark.parametrize("name", ["euler_a", "ddpm", "ddim"])
def test_sample_stochastic_sampler_draws_noise_in_its_steps(
    tiny_parts: DiffusionParts, name: SamplerName
) -> None:
    """The step noise of two seeds differs even where the start noise is the same."""
    sampling = SamplingConfig(sampler=name, num_steps=3, eta=1, batch_size=1)
    plain = sampling.model_copy(update={"sampler": "ddim", "eta": 0.0})
    request = _requests(1)
    assert _bytes(tiny_parts, request, sampling) != _bytes(tiny_parts, request, plain)


@pytest.mark.parametrize(
    "changes", [{"seed": 6}, {"index": 9}, {"prompt": "a cat"}, {"negative_prompt": "a dog"}]
)
def test_sample_changed_request_changes_the_picture(
    tiny_parts: DiffusionParts, changes: dict[str, Any]
) -> None:
    sampling = SamplingConfig(num_steps=2, guidance_scale=8, batch_size=1)
    before = _bytes(tiny_parts, _requests(1), sampling)
    assert _bytes(tiny_parts, _requests(1, **changes), sampling) != before


def test_sample_negative_prompt_of_the_settings_is_the_default(tiny_parts: DiffusionParts) -> None:
    sampling = SamplingConfig(num_steps=2, guidance_scale=8, batch_size=1, negative_prompt="a dog")
    own = sampling.model_copy(update={"negative_prompt": ""})
    wanted = _bytes(tiny_parts, _requests(1, negative_prompt="a dog"), own)
    assert _bytes(tiny_parts, _requests(1), sampling) == wanted


@pytest.mark.proves("F12")
def test_sample_guided_runs_one_forward_a_step_over_both_halves(
    tiny_parts: DiffusionParts,
) -> None:
    sampling = SamplingConfig(num_steps=4, guidance_scale=3, batch_size=2)
    with counted(tiny_parts.unet) as rows:
        list(sample(tiny_parts, _requests(3), sampling=sampling))
    assert rows == [4] * 8


@pytest.mark.parametrize("guidance_scale", [0.0, 1.0])
def test_sample_unguided_skips_the_unconditional_half(
    tiny_parts: DiffusionParts, guidance_scale: float
) -> None:
    sampling = SamplingConfig(num_steps=4, guidance_scale=guidance_scale, batch_size=2)
    with counted(tiny_parts.unet) as rows:
        list(sample(tiny_parts, _requests(2), sampling=sampling))
    assert rows == [2] * 4


def test_sample_equal_prompts_are_encoded_once(tiny_parts: DiffusionParts) -> None:
    sampling = SamplingConfig(num_steps=1, guidance_scale=3, batch_size=2)
    with counted(tiny_parts.text_encoder) as rows:
        list(sample(tiny_parts, _requests(6, prompt="a bear"), sampling=sampling))
    assert rows == [1, 1]


def test_sample_networks_in_training_stay_in_training(tiny_parts: DiffusionParts) -> None:
    tiny_parts.unet.train()
    try:
        pictures = sample(tiny_parts, _requests(1), sampling=SamplingConfig(num_steps=1))
        next(pictures)
        assert tiny_parts.unet.training
        assert not tiny_parts.vae.training
    finally:
        tiny_parts.unet.eval()


def test_sample_size_is_that_of_the_request(tiny_parts: DiffusionParts) -> None:
    sampling = SamplingConfig(num_steps=1, batch_size=2)
    requests = [*_requests(1), *_requests(1, height_px=48, width_px=16), *_requests(1)]
    sizes = [image.size for image in sample(tiny_parts, requests, sampling=sampling)]
    assert sizes == [(32, 32), (16, 48), (32, 32)]


def test_sample_size_that_does_not_fit_is_refused(tiny_parts: DiffusionParts) -> None:
    with pytest.raises(ConfigError, match=r"32 x 33 pixels .* sides are multiples of 2"):
        list(sample(tiny_parts, _requests(1, height_px=33), sampling=SamplingConfig(num_steps=1)))


def test_sample_progress_counts_pictures(tiny_parts: DiffusionParts) -> None:
    seen: list[tuple[int, int]] = []
    sampling = SamplingConfig(num_steps=1, batch_size=2)
    list(
        sample(
            tiny_parts,
            _requests(3),
            sampling=sampling,
            on_progress=lambda done, total: seen.append((done, total)),
        )
    )
    assert seen == [(2, 3), (3, 3)]


def test_sample_nothing_yields_nothing(tiny_parts: DiffusionParts) -> None:
    assert list(sample(tiny_parts, [], sampling=SamplingConfig())) == []
