"""Weights beneath adapters in fewer bytes: bf16, or NF4 by bitsandbytes on CUDA.

NF4: Dettmers et al., "QLoRA: efficient finetuning of quantized LLMs", 2023.
"""

from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import nn

from boothline.config.training import FrozenPrecision, TrainingConfig
from boothline.diffusion.loading import DiffusionParts
from boothline.errors import ConfigError

NF4_BYTES: Final = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Of a weight: four bits, a byte for each block of 64, and four for each 256 of these."""


def lower_frozen(network: nn.Module, precision: FrozenPrecision) -> None:
    """Keep the frozen weights of linear layers and convolutions in fewer bytes, in place.

    These are what autocast computes in bf16 whatever they are kept in, so that bf16 changes no
    bit. All else, norms above all, stays in float32. NF4 is for linear layers, the rest is bf16.

    Args:
        network: a network with its adapters, not on CUDA yet: NF4 is made on the way there.
        precision: what to keep them in.
    """
    if precision == "fp32":
        return
    for name, layer in list(_frozen_layers(network)):
        if precision == "nf4" and type(layer) is nn.Linear:
            network.set_submodule(name, _quantized(layer))
            continue
        for key, weight in list(layer.named_parameters(recurse=False)):
            low = weight.detach().to(torch.bfloat16)
            setattr(layer, key, nn.Parameter(low, requires_grad=False))


def frozen_bytes(network: nn.Module, precision: FrozenPrecision) -> int:
    """Return what a network takes whose frozen weights are kept in a precision.

    Args:
        network: as it is for bf16 where that precision is NF4.
        precision: of the frozen weights.
    """
    total = sum(weight.numel() * weight.element_size() for weight in network.parameters())
    if precision != "nf4":
        return total
    weights = [x.weight for _, x in _frozen_layers(network) if type(x) is nn.Linear]
    saved = sum(w.numel() * (w.element_size() - NF4_BYTES) for w in weights)
    return total - int(saved)


def first_device(training: TrainingConfig, device: torch.device) -> torch.device:
    """Return where a base model is loaded: lowered weights go to the device when they are small."""
    return device if training.frozen_precision == "fp32" else torch.device("cpu")


def move(parts: DiffusionParts, device: torch.device) -> None:
    """Move all networks of a model to a device; those for NF4 are made on the way."""
    for module in parts.modules.values():
        if isinstance(module, nn.Module):
            module.to(device)


def _frozen_layers(network: nn.Module) -> Iterator[tuple[str, nn.Linear | nn.Conv2d]]:
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) and not layer.weight.requires_grad:
            yield name, layer


def _quantized(layer: nn.Linear) -> nn.Module:
    """Return a layer of bitsandbytes with the weights of a linear one.

    Raises:
        ConfigError: the library is missing.
    """
    try:
        import bitsandbytes
    except ImportError as error:
        raise ConfigError(
            f"training.frozen_precision nf4 needs the library bitsandbytes: {error}.",
            remedy="Install the extra: pip install 'boothline[optimizers]'.",
        ) from error
    library: Any = bitsandbytes.nn
    low: nn.Module = library.Linear4bit(
        layer.in_features,
        layer.out_features,
        bias=layer.bias is not None,
        compute_dtype=torch.bfloat16,
        quant_type="nf4",
        device="meta",
    )
    low.weight = library.Params4bit(
        layer.weight.detach(), requires_grad=False, quant_type="nf4", module=low
    )
    if layer.bias is not None:
        low.bias = nn.Parameter(layer.bias.detach().to(torch.bfloat16), requires_grad=False)
    return low
