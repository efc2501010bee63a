"""Low-rank adapters (LoRA, DoRA) on the networks of a model: put in, taken over, merged.

LoRA: Hu et al., "LoRA: low-rank adaptation of large language models", 2021. DoRA: Liu et al.,
"DoRA: weight-decomposed low-rank adaptation", 2024. peft holds the layers.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn

from boothline.config.training import LoraConfig
from boothline.diffusion import counters
from boothline.diffusion.loading import DiffusionParts
from boothline.errors import ConfigError, DataError

ADAPTER = "default"
STATE_SUFFIX = "_lora"
_SHOWN_LAYERS = 12


def add_adapters(
    parts: DiffusionParts, lora: LoraConfig, *, text_encoder: bool, seed: int = 0
) -> list[str]:
    """Freeze the networks of a model and put fresh adapters, which change nothing yet, into them.

    Args:
        parts: the model, changed in place.
        lora: rank, alpha and targets.
        text_encoder: whether the text encoder gets adapters too.
        seed: names the start values, which are the same on every rank and machine.

    Returns:
        The names of the networks that have adapters.

    Raises:
        ConfigError: no layer of a network has a name that ends like a target.
    """
    targets = {parts.family.denoiser: parts.family.adapted(lora)}
    for name, encoder in parts.text_encoders.items():
        encoder.requires_grad_(False)
        if text_encoder:
            targets[name] = lora.text_encoder_targets
    for name, ends in targets.items():
        network: nn.Module = parts.part(name).requires_grad_(False)
        draw = counters.integers((), high=2**31, seed=seed, stream=f"lora/{name}", index=0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(draw))
            _inject(network, lora, ends=ends, name=name)
    if text_encoder:
        freeze_unread(parts)
    return list(targets)


def freeze_unread(parts: DiffusionParts) -> None:
    """Freeze the layers of the text encoders that get no gradient: nothing reads their output."""
    for layer in parts.family.unread(parts.text_encoders):
        layer.requires_grad_(False)


def _inject(network: nn.Module, lora: LoraConfig, *, ends: tuple[str, ...], name: str) -> None:
    """Put adapters into one network."""
    config = PeftLoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, target_modules=list(ends), use_dora=lora.dora
    )
    try:
        inject_adapter_in_model(config, network, adapter_name=ADAPTER)
    except ValueError as error:
        linear = (key for key, layer in network.named_modules() if isinstance(layer, nn.Linear))
        known = sorted({".".join(key.split(".")[-2:]) for key in linear})
        setting = "text_encoder_targets" if name.startswith("text_encoder") else "targets"
        raise ConfigError(
            f"training.lora.{setting} {list(ends)} cannot be adapted in the {name}: "
            f"{' '.join(str(error).split())[:200]}",
            remedy=f"Name ends of its layers, such as {', '.join(known[:_SHOWN_LAYERS])}.",
        ) from error


def load_adapters(parts: DiffusionParts, state: Path, *, lora: LoraConfig) -> list[str]:
    """Put the adapters of a training state onto the base model, in place.

    Args:
        parts: the base model.
        state: folder with `unet_lora.safetensors`, `text_encoder_lora.safetensors` if it has
            adapters, and `ema.safetensors` if averages are to be used.
        lora: the settings that they were trained with.

    Returns:
        The names of the networks that have adapters.

    Raises:
        TrainingError: a weight is NaN or infinite.
        DataError: the state holds no adapters, or they do not fit the base model.
    """
    from boothline.diffusion.export import trained_weights

    weights = trained_weights(state, names=parts.family.trainable, suffix=STATE_SUFFIX)
    adapted = add_adapters(parts, lora, text_encoder="text_encoder" in weights)
    for name in adapted:
        network = parts.part(name)
        wanted = {key for key, p in network.named_parameters() if p.requires_grad}
        if weights[name].keys() != wanted:
            raise DataError(
                f"The adapters in {state} do not fit the {name} of the base model.",
                remedy="Publish with the base_model that the training used.",
            )
        network.load_state_dict(weights[name], strict=False)
    return adapted


def adapter_layers(network: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield name and peft layer of each adapted layer of a network."""
    for name, layer in network.named_modules():
        if isinstance(layer, LoraLayer):
            yield name, layer


def adapter_weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return the adapters of a network under peft's names, without the adapter's own name.

    The names are `<layer>.lora_A.weight`, `<layer>.lora_B.weight` and, with DoRA,
    `<layer>.lora_magnitude_vector.weight`; the tensors are shared, not copied.

    Raises:
        ValueError: a layer carries more than one adapter.
    """
    weights = {}
    for name, layer in adapter_layers(network):
        (adapter,) = layer.lora_A.keys()
        weights[f"{name}.lora_A.weight"] = layer.lora_A[adapter].weight.detach()
        weights[f"{name}.lora_B.weight"] = layer.lora_B[adapter].weight.detach()
        if adapter in layer.lora_magnitude_vector:
            magnitude = layer.lora_magnitude_vector[adapter].weight
            weights[f"{name}.lora_magnitude_vector.weight"] = magnitude.detach()
    return weights


def merge_adapters(parts: DiffusionParts) -> None:
    """Add the adapters to the weights that they sit on, and take them out, in place."""
    for name in parts.family.trainable:
        network: nn.Module = parts.part(name)
        for path, layer in list(adapter_layers(network)):
            layer.merge(safe_merge=True)
            parent, _, leaf = path.rpartition(".")
            setattr(network.get_submodule(parent), leaf, layer.get_base_layer())
        if hasattr(network, "peft_config"):
            del network.peft_config
