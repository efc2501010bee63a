"""Frozen weights in fewer bytes: bf16 changes no bit, fp8 and NF4 little; adapters stay float32."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from boothline.config.training import FrozenPrecision, TrainingConfig
from boothline.diffusion.loading import DiffusionParts, load_pipeline
from boothline.diffusion.prompt_encoding import tokenize
from boothline.errors import ConfigError
from boothline.training import worker
from boothline.training.assembly import trained_networks
from boothline.training.denoiser import Denoiser
from boothline.training.frozen import NF4_BYTES, Float8Linear, frozen_bytes, lower_frozen, move

Folders = Callable[[str], Path]
CPU = torch.device("cpu")
OTHERS = ("sdxl", "sd3", "klein", "z_image", "qwen_image")


def adapted(folder: Path, precision: FrozenPrecision) -> tuple[DiffusionParts, Denoiser]:
    """A model with adapters that change something."""
    training = TrainingConfig.model_validate(
        {
            "method": "lora",
            "precision": "bf16",
            "train_text_encoder": False,
            "frozen_precision": precision,
        }
    )
    parts = load_pipeline(folder, device=CPU)
    denoiser = trained_networks(parts, training)
    draw = torch.Generator().manual_seed(4)
    for weight in denoiser.parameters():
        if weight.requires_grad:
            weight.data += 0.1 * torch.randn(weight.shape, generator=draw)
    move(parts, CPU)
    return parts, denoiser


def trained(parts: DiffusionParts, denoiser: Denoiser) -> tuple[torch.Tensor, list[Any]]:
    """The prediction and the adapters' gradients of a step computed in bf16."""
    draw = torch.Generator().manual_seed(3)
    noisy = torch.randn(2, parts.family.latent_channels(parts), 16, 16, generator=draw)
    texts = [tokenize(parts, prompt) for prompt in ("a photo of sks bear", "a dog")]
    tokens = {name: torch.stack([text[name] for text in texts]) for name in texts[0]}
    with torch.no_grad():
        captions = {
            n: v.float() for n, v in parts.family.embed(parts.text_encoders, tokens).items()
        }
    timesteps = torch.tensor([700.0, 20.0]) if parts.family.is_flow else torch.tensor([700, 20])
    with torch.autocast("cpu", torch.bfloat16):
        found = denoiser(noisy, timesteps, captions, torch.tensor([0, 1]))
    found.float().square().mean().backward()
    return found, [weight.grad for weight in denoiser.parameters() if weight.requires_grad]


@pytest.mark.proves("F57/bf16")
@pytest.mark.parametrize(
    "name",
    ["sd1", "flux", *(pytest.param(name, marks=pytest.mark.matrix) for name in OTHERS)],
)
def test_frozen_weights_in_bf16_give_the_bits_of_those_in_float32(
    family_folders: Folders, name: str
) -> None:
    folder = family_folders(name)
    (plain, plainly), (lowered, low) = adapted(folder, "fp32"), adapted(folder, "bf16")
    wanted, found = trained(plain, plainly), trained(lowered, low)
    assert torch.equal(found[0], wanted[0])
    assert len(found[1]) > 0
    assert all(torch.equal(one, two) for one, two in zip(found[1], wanted[1], strict=True))
    assert frozen_bytes(lowered.denoiser, "bf16") < frozen_bytes(plain.denoiser, "fp32")


def test_only_frozen_linear_layers_and_convolutions_are_lowered(tiny_pipeline: Path) -> None:
    parts, denoiser = adapted(tiny_pipeline, "bf16")
    for name, layer in parts.denoiser.named_modules():
        for weight in layer.parameters(recurse=False):
            low = isinstance(layer, nn.Linear | nn.Conv2d) and "lora_" not in name
            assert weight.dtype == (torch.bfloat16 if low else torch.float32), name
    others = (parts.vae, parts.text_encoder)
    assert {w.dtype for network in others for w in network.parameters()} == {torch.float32}
    assert all(w.dtype == torch.float32 for w in denoiser.parameters() if w.requires_grad)


def float8_numbers() -> torch.Tensor:
    """Every number of float8 e4m3fn as float64, ascending: the pattern of 127 is not a number."""
    below_one = [mantissa / 8 * 2.0**-6 for mantissa in range(8)]
    others = [(1 + m / 8) * 2.0 ** (e - 7) for e in range(1, 16) for m in range(8)][:-1]
    positive = torch.tensor(below_one + others, dtype=torch.float64)
    return torch.cat([-positive.flip(0)[:-1], positive])


def nearest(values: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """The nearest of ascending numbers to each value; of two as near, that with the even place."""
    above = torch.searchsorted(numbers, values).clamp(1, len(numbers) - 1)
    low, high = numbers[above - 1], numbers[above]
    # Zero is in the middle, and has the even pattern of two neighbours.
    is_low_even = (above - 1 - len(numbers) // 2) % 2 == 0
    tie = values - low == high - values
    return torch.where((values - low < high - values) | (tie & is_low_even), low, high)


def test_weights_in_fp8_are_the_nearest_numbers_of_each_output_s_scale() -> None:
    draw = torch.Generator().manual_seed(1)
    layer = nn.Linear(512, 6).requires_grad_(False)
    layer.weight.copy_(torch.randn(6, 512, generator=draw) * 10.0 ** -torch.arange(6)[:, None])
    layer.weight[2] = 0
    layer.weight[3, 0] = 448 * 2.0**-9  # the largest number of the range
    layer.weight[3, 1:9] = torch.arange(8) * 2.0**-19  # half steps at the bottom
    low = Float8Linear(layer)
    wanted = []
    for row in layer.weight.double():
        largest = float(row.abs().max())
        exponent = next((e for e in range(-60, 60) if 2.0**e > largest / 448), 0)
        wanted.append(nearest(row / 2.0**exponent, float8_numbers()) * 2.0**exponent)
    assert low.weight.dtype == torch.bfloat16
    assert torch.equal(low.weight.double(), torch.stack(wanted))
    large = layer.weight.abs() > 2.0**-13 * layer.weight.abs().amax(dim=1, keepdim=True)
    error = (low.weight.double() - layer.weight).abs() / layer.weight.abs()
    assert error[large].max() <= 1 / 16


@pytest.mark.proves("F57/fp8")
@pytest.mark.parametrize(
    "name",
    ["sd1", "flux", *(pytest.param(name, marks=pytest.mark.matrix) for name in OTHERS)],
)
def test_frozen_weights_in_fp8_train_as_the_rounded_ones_in_bf16(
    family_folders: Folders, name: str
) -> None:
    folder = family_folders(name)
    (lowered, low), (parts, denoiser) = adapted(folder, "fp8"), adapted(folder, "bf16")
    rounded = dict(lowered.denoiser.named_modules())
    near = trained(parts, denoiser)[0]
    denoiser.zero_grad()
    for key, layer in parts.denoiser.named_modules():
        if isinstance(rounded[key], Float8Linear):
            layer.weight.data.copy_(rounded[key].weight)
    wanted, found = trained(parts, denoiser), trained(lowered, low)
    assert torch.equal(found[0], wanted[0])
    assert all(torch.equal(one, two) for one, two in zip(found[1], wanted[1], strict=True))
    learning = [bool(gradient.abs().sum() > 0) for gradient in found[1]]
    assert any(learning) if name == "sd3" else all(learning)  # its last block drops the text
    assert 0 < float((found[0] - near).norm() / near.norm()) < 0.1
    plain = load_pipeline(folder, device=CPU).denoiser
    layers = [m for m in lowered.denoiser.modules() if isinstance(m, Float8Linear)]
    assert len(layers) == sum(type(m) is nn.Linear for m in plain.modules())
    saved = sum(m.bytes_OI.numel() - m.scale_O1.numel() * 2 for m in layers)
    assert frozen_bytes(lowered.denoiser, "fp8") == frozen_bytes(parts.denoiser, "bf16") - saved


def test_weights_in_fp8_are_not_kept_twice_for_the_backward_pass() -> None:
    layer = Float8Linear(nn.Linear(64, 64).requires_grad_(False))
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        layer(torch.ones(1, 64, requires_grad=True)).sum()
    assert max(t.numel() * t.element_size() for t in kept) == 64 * 64


@pytest.mark.proves("F57/nf4")
def test_frozen_weights_in_nf4_are_near_and_only_adapters_learn(tiny_pipeline: Path) -> None:
    """bitsandbytes has NF4 on CPUs, too; a training takes it on CUDA alone."""
    library = pytest.importorskip("bitsandbytes", reason="needs the extra optimizers")
    parts, denoiser = adapted(tiny_pipeline, "nf4")
    layers = [m for m in parts.denoiser.modules() if isinstance(m, library.nn.Linear4bit)]
    plain = load_pipeline(tiny_pipeline, device=CPU).denoiser
    assert len(layers) == sum(type(m) is nn.Linear for m in plain.modules())
    assert all(layer.weight.dtype == torch.uint8 for layer in layers)
    wanted = trained(*adapted(tiny_pipeline, "bf16"))
    found = trained(parts, denoiser)
    distance = float((found[0] - wanted[0]).norm() / wanted[0].norm())
    assert 0 < distance < 0.3
    assert all(gradient.abs().sum() > 0 for gradient in found[1])
    assert all(w.grad is None for w in denoiser.parameters() if not w.requires_grad)


def test_bytes_of_nf4_are_counted_from_the_weights_in_bf16() -> None:
    network = nn.Sequential(nn.Linear(64, 64, bias=False), nn.Conv2d(2, 2, 1, bias=False))
    lower_frozen(network.requires_grad_(False), "bf16")
    assert frozen_bytes(network, "bf16") == 2 * 64 * 64 + 2 * 4
    assert frozen_bytes(network, "nf4") == int(NF4_BYTES * 64 * 64) + 2 * 4


def test_nf4_without_its_library_is_refused(
    tiny_pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match="nf4 needs the library bitsandbytes"):
        adapted(tiny_pipeline, "nf4")


def test_nf4_without_cuda_is_refused_by_the_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    training = SimpleNamespace(precision="bf16", frozen_precision="nf4")
    job: Any = SimpleNamespace(config=SimpleNamespace(training=training))
    with pytest.raises(ConfigError, match="nf4 needs a CUDA device"):
        worker._check_precision(job)
