"""What is frozen is not trained: the autoencoder always, the text encoder by its setting."""

from pathlib import Path

import pytest
import torch
from torch import nn

from boothline.config.training import TrainingConfig
from boothline.diffusion.loading import load_pipeline
from boothline.training.assembly import trained_networks
from boothline.training.optimizing import build_optimizer


def weights_of(module: nn.Module) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in module.parameters()]


def changed(module: nn.Module, before: list[torch.Tensor]) -> bool:
    return any(
        not torch.equal(weight, former)
        for weight, former in zip(module.parameters(), before, strict=True)
    )


@pytest.mark.proves("F09/frozen")
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("train_text_encoder", [True, False])
def test_optimizer_step_changes_what_is_trained_and_nothing_else(
    tiny_pipeline: Path, method: str, train_text_encoder: bool
) -> None:
    config = TrainingConfig.model_validate(
        {"method": method, "train_text_encoder": train_text_encoder}
    )
    parts = load_pipeline(tiny_pipeline)
    denoiser = trained_networks(parts, config)
    optimizer = build_optimizer(denoiser, config)
    networks = {"unet": parts.unet, "text_encoder": parts.text_encoder, "vae": parts.vae}
    before = {name: weights_of(network) for name, network in networks.items()}
    tokens = torch.zeros(1, 12, dtype=torch.int64)
    captions = {"text_encoder": tokens}
    if not train_text_encoder:
        captions = {"context": parts.text_encoder(tokens)[0].detach()}
    rows = torch.tensor([0])
    prediction = denoiser(torch.ones(1, 4, 16, 16), torch.tensor([1]), captions, rows)
    prediction.square().mean().backward()
    optimizer.step()
    assert {name: changed(network, before[name]) for name, network in networks.items()} == {
        "unet": True,
        "text_encoder": train_text_encoder,
        "vae": False,
    }
