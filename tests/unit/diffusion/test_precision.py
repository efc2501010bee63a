"""Which number formats a device computes in by itself, and what is sampled in them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from unit.diffusion.test_family_sampling import ALL, Folders, pixels, requests_of, sampling_of

from boothline.config.sampling import SamplingPrecision
from boothline.diffusion import devices
from boothline.diffusion.devices import has_fast_bfloat16
from boothline.diffusion.loading import load_pipeline
from boothline.errors import ConfigError

CPU = torch.device("cpu")


@pytest.mark.parametrize(("slow", "fast"), [(torch.float32, True), (torch.bfloat16, False)])
def test_bfloat16_is_fast_where_a_product_of_matrices_takes_less_time_in_it(
    monkeypatch: pytest.MonkeyPatch, slow: torch.dtype, fast: bool
) -> None:
    monkeypatch.setattr(devices, "_seconds_of_a_product", lambda dtype: 2.0 if dtype is slow else 1)
    assert has_fast_bfloat16(CPU) is fast


def test_what_is_measured_is_the_time_of_the_processor() -> None:
    assert 0 < devices._seconds_of_a_product(torch.float32) < 5


@pytest.mark.proves("F58/half")
@pytest.mark.parametrize("name", ["sd", *ALL])
def test_pictures_in_bf16_are_those_of_the_rounded_weights(
    family_folders: Folders, tiny_pipeline: Path, name: str
) -> None:
    """Float32 over the same rounded weights differs by what rounding within a pass makes of it."""
    folder = tiny_pipeline if name == "sd" else family_folders(name)
    lowered = load_pipeline(folder, device="cpu", for_sampling=True, precision="bf16")
    rounded = load_pipeline(folder, device="cpu")
    for network in (rounded.denoiser, *rounded.text_encoders.values()):
        network.to(torch.bfloat16).to(torch.float32)
    sampling = sampling_of(name, precision="bf16", guidance_scale=2.0)
    got, near = (pixels(parts, sampling, requests_of()) for parts in (lowered, rounded))
    difference = np.abs(got.astype(float) - near)
    assert 0 < difference.mean() < 0.1 * np.abs(near - near.mean()).mean()


@pytest.mark.parametrize("name", ["sdxl", "flux", "qwen_image"])
def test_precision_is_that_of_the_denoiser_and_the_text_encoders_alone(
    family_folders: Folders, name: str
) -> None:
    parts = load_pipeline(family_folders(name), device="cpu", precision="bf16")
    assert parts.vae.dtype == torch.float32
    dtypes = {network.dtype for network in (parts.denoiser, *parts.text_encoders.values())}
    assert dtypes == {torch.bfloat16}


@pytest.mark.parametrize(("precision", "last"), [("fp32", True), ("bf16", False)])
def test_convolutions_lie_channels_last_where_a_cpu_is_faster_with_them(
    tiny_pipeline: Path, precision: SamplingPrecision, last: bool
) -> None:
    parts = load_pipeline(tiny_pipeline, device="cpu", for_sampling=True, precision=precision)
    for network, expected in ((parts.denoiser, last), (parts.vae, True)):
        weight = (
            network.conv_in.weight if network is parts.denoiser else network.decoder.conv_in.weight
        )
        assert weight.is_contiguous(memory_format=torch.channels_last) is expected


def test_fp16_on_a_cpu_is_refused(tiny_pipeline: Path) -> None:
    with pytest.raises(ConfigError, match=r"fp16 needs a CUDA device.*bf16"):
        load_pipeline(tiny_pipeline, device="cpu", precision="fp16")
