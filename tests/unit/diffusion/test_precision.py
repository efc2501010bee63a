"""Which number formats a device computes in by itself, and what is sampled in them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from unit.diffusion.test_family_sampling import ALL, Folders, pixels, requests_of, sampling_of

from boothline.diffusion.devices import has_native_bfloat16
from boothline.diffusion.loading import load_pipeline
from boothline.errors import ConfigError

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("flags", "native"),
    [
        ("fpu avx2 avx512f avx512_bf16 amx_bf16 amx_tile", True),
        ("fpu avx2 avx512f avx512_bf16", False),
        ("fp asimd svebf16 i8mm bf16", True),
        ("fpu avx2 avx512f avx512_vnni", False),
    ],
)
def test_bfloat16_is_native_where_the_processor_is_fast_in_it(
    tmp_path: Path, flags: str, native: bool
) -> None:
    cpu_info = tmp_path / "cpuinfo"
    cpu_info.write_text(f"processor : 0\nflags : {flags}\n", encoding="utf-8")
    assert has_native_bfloat16(CPU, cpu_info=cpu_info) is native


def test_a_processor_that_lists_nothing_counts_as_without(tmp_path: Path) -> None:
    assert not has_native_bfloat16(CPU, cpu_info=tmp_path / "absent")


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


def test_fp16_on_a_cpu_is_refused(tiny_pipeline: Path) -> None:
    with pytest.raises(ConfigError, match=r"fp16 needs a CUDA device.*bf16"):
        load_pipeline(tiny_pipeline, device="cpu", precision="fp16")
