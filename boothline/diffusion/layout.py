"""Checks that a folder is a model that can be loaded: its classes and weights; without torch."""

import json
from pathlib import Path
from typing import Any

from boothline.errors import DataError

ALLOWED_CLASSES = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
}
WEIGHT_NAMES = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}
PICKLE_SUFFIXES = frozenset({".bin", ".ckpt", ".pt", ".pth", ".pkl", ".msgpack"})


def check_folder(path: Path) -> None:
    """Raise `DataError` unless a folder holds a Stable Diffusion model with safetensors weights."""
    index = read_json(path / "model_index.json")
    declared = index.get("_class_name")
    if declared != "StableDiffusionPipeline":
        raise DataError(
            f"{path / 'model_index.json'} names the pipeline {declared!r}; "
            "only StableDiffusionPipeline is loaded, custom pipelines are refused.",
            remedy="Use a model whose _class_name is StableDiffusionPipeline.",
        )
    for part, allowed in ALLOWED_CLASSES.items():
        found = tuple(index.get(part) or ())
        # Both names are the same tokenizer.
        if part == "tokenizer" and found == ("transformers", "CLIPTokenizerFast"):
            found = allowed
        if found != allowed:
            raise DataError(
                f"{path / 'model_index.json'} names {found!r} as {part}; "
                f"only {allowed[1]} is loaded.",
                remedy="Use a model in the Stable Diffusion 1.x or 2.x layout.",
            )
    for part, stem in WEIGHT_NAMES.items():
        weight_variant(path / part, stem)


def weight_variant(folder: Path, stem: str) -> str | None:
    """Return None for plain safetensors weights, or `fp16` where only that variant exists.

    Raises:
        DataError: the folder has no safetensors weights; pickle files found instead are named.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} does not exist.", remedy="The model folder is incomplete.")
    for variant, name in ((None, stem), ("fp16", f"{stem}.fp16")):
        whole, sharded = f"{name}.safetensors", f"{stem}.safetensors.index.json"
        if (folder / whole).is_file() or (variant is None and (folder / sharded).is_file()):
            return variant
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLE_SUFFIXES)
    if pickles:
        raise DataError(
            f"{folder} holds only pickle weights, which can run code when opened: "
            f"{', '.join(pickles)}.",
            remedy=f"Convert them to {stem}.safetensors on a machine you trust.",
        )
    raise DataError(
        f"{folder} holds no {stem}.safetensors.", remedy="The model folder is incomplete."
    )


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object from a file, or raise `DataError` naming it."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(
            f"{path} does not exist.", remedy="The model folder is incomplete."
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} must hold a JSON object.")
    return value
