"""Frozen weights in fewer bytes: bf16 changes no bit, NF4 little, and adapters stay float32."""

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
from boothline.training.frozen import NF4_BYTES, frozen_bytes, lower_frozen, move

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
