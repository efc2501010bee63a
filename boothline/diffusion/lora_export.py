"""Writes adapters as files that other tools load, and checks them by diffusers' own loader."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from boothline.config.training import LoraConfig
from boothline.diffusion.export import PICTURE_TOLERANCE, check_picture, plain_pipeline
from boothline.diffusion.loading import DiffusionParts, load_pipeline, quiet_libraries
from boothline.diffusion.lora import adapter_layers, adapter_weights, merge_adapters
from boothline.errors import IntegrityError

DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
KOHYA_FILE = "lora.safetensors"
MERGE_TOLERANCE = 1 / 255
_ROUNDING = 1e-6


def save_adapters(parts: DiffusionParts, folder: Path, *, lora: LoraConfig) -> list[Path]:
    """Write the adapters of a model, float32, and return the files.

    `pytorch_lora_weights.safetensors` has diffusers' names. `lora.safetensors` has the names of
    kohya's trainer, which A1111 and ComfyUI read; it is left out for families without such names
    and for DoRA, whose weights diffusers drops under these names, so that nobody could check them.

    Args:
        parts: the model with its adapters.
        folder: where to write.
        lora: the settings of the adapters.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / DIFFUSERS_FILE]
    _save(
        diffusers_weights(parts),
        files[0],
        metadata={"lora_adapter_metadata": json.dumps(_facts(parts, lora), sort_keys=True)},
    )
    if parts.family.kohya_prefixes and not lora.dora:
        files.append(folder / KOHYA_FILE)
        _save(
            kohya_weights(parts, alpha=lora.alpha),
            files[1],
            metadata={
                "ss_network_module": "networks.lora",
                "ss_network_dim": str(lora.rank),
                "ss_network_alpha": str(lora.alpha),
            },
        )
    return files


def diffusers_weights(parts: DiffusionParts) -> dict[str, torch.Tensor]:
    """Return the adapters under diffusers' names: `unet.<layer>.lora_A.weight` and so on."""
    named = {}
    for name in parts.family.trainable:
        # Older releases of transformers have this prefix in the layers' names; new ones drop it.
        infix = "text_model." if name in parts.family.text_encoders else ""
        for key, weight in adapter_weights(parts.part(name)).items():
            named[f"{name}.{infix}{key.removeprefix('text_model.')}"] = weight
    return named


def kohya_weights(parts: DiffusionParts, *, alpha: float) -> dict[str, torch.Tensor]:
    """Return the adapters under the names that A1111 and ComfyUI read.

    `lora_unet_<layer>.lora_down.weight`, `.lora_up.weight` and `.alpha`, the layer's name with
    underscores for dots; `lora_te_` for a text encoder, `lora_te1_` and `lora_te2_` for two.
    """
    named = {}
    ends = {"lora_A.weight": "lora_down.weight", "lora_B.weight": "lora_up.weight"}
    for name, prefix in parts.family.kohya_prefixes.items():
        for key, weight in adapter_weights(parts.part(name)).items():
            for ours, theirs in ends.items():
                if not key.endswith(f".{ours}"):
                    continue
                layer = key.removesuffix(f".{ours}").removeprefix("text_model.")
                stem = f"{prefix}{layer.replace('.', '_')}"
                named[f"{stem}.{theirs}"] = weight
                named[f"{stem}.alpha"] = torch.tensor(alpha)
    return named


def check_adapters(file: Path, parts: DiffusionParts, *, base: Path, prompt: str) -> float:
    """Load an adapter file onto the base model with diffusers' `load_lora_weights` and compare.

    Adapter weights and scales must be equal bit for bit; where diffusers takes a scale into the
    weights, what they add must be equal but for rounding. A picture at one seed may differ by
    `PICTURE_TOLERANCE` (of 1).

    Args:
        file: one of the files of `save_adapters`.
        parts: the model with its adapters, as it was trained.
        base: folder of the base model.
        prompt: what the picture shows.

    Returns:
        The largest difference of the picture.

    Raises:
        IntegrityError: they differ.
    """
    with quiet_libraries():
        loaded = plain_pipeline(load_pipeline(base, device=parts.device))
        try:
            loaded.load_lora_weights(str(file.parent), weight_name=file.name, local_files_only=True)
        except (ValueError, KeyError, RuntimeError) as error:
            raise _refusal(f"cannot be loaded by diffusers: {error}", file) from error
        for name in parts.family.trainable:
            _check_equal(parts.part(name), getattr(loaded, name), name=name, file=file)
        side_px = parts.family.check_side_px(parts)
        got, wanted = (
            check_picture(each, prompt, side_px=side_px) for each in (loaded, plain_pipeline(parts))
        )
        difference = float(abs(got - wanted).max())
    if not difference <= PICTURE_TOLERANCE:
        raise _refusal(f"makes another picture (difference {difference:.3g})", file)
    return difference


def merge_checked(parts: DiffusionParts, *, prompt: str) -> float:
    """Merge the adapters into the weights, in place, and compare a picture before and after.

    Returns:
        The largest difference, in [0, 1]; merging rounds each weight once more.

    Raises:
        IntegrityError: it exceeds one grey level.
    """
    with quiet_libraries():
        side_px = parts.family.check_side_px(parts)
        before = check_picture(plain_pipeline(parts), prompt, side_px=side_px)
        merge_adapters(parts)
        after = check_picture(plain_pipeline(parts), prompt, side_px=side_px)
        difference = float(abs(after - before).max())
    if not difference <= MERGE_TOLERANCE:
        raise IntegrityError(
            f"Merged into the weights, the adapters make another picture: it differs by "
            f"{difference:.3g}, more than one grey level.",
            remedy="The export is not published; train with a lower training.lora.alpha.",
        )
    return difference


def _facts(parts: DiffusionParts, lora: LoraConfig) -> dict[str, Any]:
    """Return what diffusers needs to know to put the adapters in, by network."""
    facts: dict[str, Any] = {}
    for name in parts.family.trainable:
        is_denoiser = name == parts.family.denoiser
        ends = parts.family.adapted(lora) if is_denoiser else lora.text_encoder_targets
        if any(adapter_layers(parts.part(name))):
            facts[f"{name}.r"] = lora.rank
            facts[f"{name}.lora_alpha"] = lora.alpha
            facts[f"{name}.target_modules"] = list(ends)
            facts[f"{name}.use_dora"] = lora.dora
    return facts


def _save(weights: Mapping[str, torch.Tensor], path: Path, *, metadata: dict[str, str]) -> None:
    """Write a safetensors file in float32."""
    tensors = {key: w.detach().float().cpu().contiguous() for key, w in weights.items()}
    save_file(tensors, path, metadata={"format": "pt", **metadata})


def _check_equal(ours: torch.nn.Module, theirs: torch.nn.Module, *, name: str, file: Path) -> None:
    """Raise unless two networks carry the same adapters."""
    if _scales(ours) == _scales(theirs):
        if not _equal(adapter_weights(ours), adapter_weights(theirs)):
            raise _refusal(f"gives the {name} other adapters than were trained", file)
        return
    added, found = _added(ours), _added(theirs)
    if added.keys() != found.keys():
        raise _refusal(f"gives the {name} other adapters than were trained", file)
    if any(not _is_near(found[layer], weight) for layer, weight in added.items()):
        raise _refusal(f"scales the adapters of the {name} otherwise", file)


def _added(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return what the adapters add to each layer's weights."""
    return {
        name: layer.get_delta_weight(adapter).detach()
        for name, layer in adapter_layers(network)
        for adapter in layer.lora_A
    }


def _is_near(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Return whether two weights are equal but for rounding."""
    return bool((found - wanted).abs().max() <= _ROUNDING * wanted.abs().max())


def _equal(ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(
        torch.equal(weight, theirs[key]) for key, weight in ours.items()
    )


def _scales(network: torch.nn.Module) -> dict[str, list[float]]:
    return {name: list(layer.scaling.values()) for name, layer in adapter_layers(network)}


def _refusal(what: str, file: Path) -> IntegrityError:
    return IntegrityError(
        f"The adapter file {file.name} {what}.",
        remedy="The export is not published; leave the layer out of training.lora.targets.",
    )
