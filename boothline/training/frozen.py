"""Weights beneath adapters in fewer bytes: bf16, fp8, or NF4 by bitsandbytes on CUDA.

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
    bit. All else, norms above all, stays in float32. fp8 and NF4 are for linear layers, the rest is
    bf16 then.

    Args:
        network: a network with its adapters, not on CUDA yet: NF4 is made on the way there.
        precision: what to keep them in.
    """
    if precision == "fp32":
        return
    smaller = {"fp8": Float8Linear, "nf4": _quantized}.get(precision)
    for name, layer in list(_frozen_layers(network)):
        if smaller and type(layer) is nn.Linear:
            network.set_submodule(name, smaller(layer))
            continue
        for key, weight in list(layer.named_parameters(recurse=False)):
            low = weight.detach().to(torch.bfloat16)
            setattr(layer, key, nn.Parameter(low, requires_grad=False))


class Float8Linear(nn.Module):
    """A frozen linear layer of which the weights lie in float8 (e4m3fn) and count in bf16.

    Each output has a scale, the power of two that brings its largest weight into the upper half of
    the range: four significant bits times a power of two are exact in bf16, so that a weight is
    rounded once, by at most a sixteenth of itself (more below 2^-13 of the largest). The bytes are
    kept as such, since a network's dtype is that of its parameters.

    Args:
        layer: whose weights they are.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight_OI = layer.weight.detach()
        scale_O1 = _scale(weight_OI)
        bytes_OI = (weight_OI / scale_O1).to(torch.float8_e4m3fn).view(torch.uint8)
        self.bytes_OI = nn.Parameter(bytes_OI, requires_grad=False)
        self.scale_O1 = nn.Parameter(scale_O1.to(torch.bfloat16), requires_grad=False)
        self.bias = None
        if layer.bias is not None:
            self.bias = nn.Parameter(layer.bias.detach().to(torch.bfloat16), requires_grad=False)

    @property
    def weight(self) -> torch.Tensor:
        """The weights that it computes with: bfloat16, (O, I)."""
        return _bfloat16(self.bytes_OI, self.scale_O1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the layer's outputs: bfloat16, (..., O)."""
        found: torch.Tensor = _Float8Product.apply(  # type: ignore[no-untyped-call]
            inputs.to(torch.bfloat16), self.bytes_OI, self.scale_O1, self.bias
        )
        return found


class _Float8Product(torch.autograd.Function):
    """A linear layer that keeps its weights' bytes for the backward pass, not the weights."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        inputs: torch.Tensor,
        bytes_OI: torch.Tensor,
        scale_O1: torch.Tensor,
        bias_O: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return the outputs."""
        ctx.save_for_backward(bytes_OI, scale_O1)
        return nn.functional.linear(inputs, _bfloat16(bytes_OI, scale_O1), bias_O)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:  # noqa: ANN401
        """Return the inputs' gradient; nothing else has one."""
        return gradients[0] @ _bfloat16(*ctx.saved_tensors), None, None, None


def _scale(weight_OI: torch.Tensor) -> torch.Tensor:
    """Return the power of two for each output, (O, 1), by which no weight is beyond the range."""
    largest_O1 = weight_OI.abs().amax(dim=1, keepdim=True)
    exponent_O1 = torch.frexp(largest_O1 / torch.finfo(torch.float8_e4m3fn).max).exponent
    return torch.ldexp(torch.ones_like(largest_O1), exponent_O1)


def _bfloat16(bytes_OI: torch.Tensor, scale_O1: torch.Tensor) -> torch.Tensor:
    return bytes_OI.view(torch.float8_e4m3fn).to(torch.bfloat16) * scale_O1


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
    """Return where a base model is loaded: weights go to the device when they are lowered, or cut.

    Args:
        training: says whether they are.
        device: where they go.
    """
    as_is = training.frozen_precision == "fp32" and not training.shard_frozen
    return device if as_is else torch.device("cpu")


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
