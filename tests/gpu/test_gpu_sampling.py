"""Pictures that a GPU samples are those of the CPU, up to rounding."""

from pathlib import Path

import numpy as np
import pytest
import torch

from boothline.config.sampling import SamplingConfig
from boothline.diffusion.loading import load_pipeline
from boothline.diffusion.sampling import SampleRequest, sample

SETTINGS = {"num_steps": 4, "batch_size": 2, "seed": 3}
REQUESTS = [
    SampleRequest(prompt="a photo of sks dog", seed=3, index=index, height_px=32, width_px=32)
    for index in range(2)
]


def pixels(base: Path, device: torch.device, sampling: SamplingConfig) -> list[np.ndarray]:
    parts = load_pipeline(base, device=device, for_sampling=True, precision=sampling.precision)
    assert parts.unet.device.type == device.type
    return [np.asarray(image).astype(int) for image in sample(parts, REQUESTS, sampling=sampling)]


@pytest.mark.parametrize("sampler", ["ddim", "euler_a"])
def test_pictures_of_the_device_are_those_of_the_cpu(
    tiny_pipeline: Path, device: torch.device, sampler: str
) -> None:
    sampling = SamplingConfig.model_validate({**SETTINGS, "sampler": sampler})
    ours = pixels(tiny_pipeline, device, sampling)
    theirs = pixels(tiny_pipeline, torch.device("cpu"), sampling)
    for one, other in zip(ours, theirs, strict=True):
        assert abs(one - other).mean() < 1
    assert abs(ours[0] - ours[1]).mean() > 1


@pytest.mark.proves("F58/fp16")
def test_pictures_in_fp16_are_those_of_fp32(tiny_pipeline: Path, device: torch.device) -> None:
    precision = "fp16" if device.type == "cuda" else "bf16"
    half = SamplingConfig.model_validate({**SETTINGS, "precision": precision})
    ours = pixels(tiny_pipeline, device, half)
    theirs = pixels(tiny_pipeline, device, SamplingConfig.model_validate(SETTINGS))
    for one, other in zip(ours, theirs, strict=True):
        assert abs(one - other).mean() < 4
