"""Checks that a folder is a model that can be loaded: its classes and weights; without torch."""

import json
from pathlib import Path
from typing import Any

from boothline.diffusion.families import FAMILIES, Family
from boothline.diffusion.families.family import SCHEDULER
from boothline.diffusion.weights import check_weights
from boothline.errors import DataError

PICKLE_SUFFIXES = frozenset({".bin", ".ckpt", ".pt", ".pth", ".pkl", ".msgpack"})


def family_of(path: Path) -> Family:
    """Return the family of a model's folder.

    Raises:
        DataError: the folder is not a text-to-image model, or of no family that is known.
    """
    index = path / "model_index.json"
    if not index.is_file() and (path / "config.json").is_file():
        raise DataError(
            f"{path} is a single network, not a text-to-image model: it has no model_index.json.",
            remedy="Name the folder that holds model_index.json as base_model.source.",
        )
    declared = read_json(index).get("_class_name")
    if not isinstance(declared, str) or declared not in FAMILIES:
        raise DataError(
            f"{index} names the pipeline {declared!r}; only {', '.join(FAMILIES)} are loaded, "
            "custom pipelines are refused.",
            remedy=f"Use a model whose _class_name is one of them: "
            f"{', '.join(family.name for family in FAMILIES.values())}.",
        )
    return FAMILIES[declared]


def check_folder(path: Path) -> Family:
    """Return the family of a folder that holds all of a model, with safetensors weights.

    Raises:
        DataError: it does not; the message names the part.
    """
    family = family_of(path)
    index = read_json(path / "model_index.json")
    for part in family.parts:
        found = tuple(index.get(part.name) or ())
        if found not in {(part.library, name) for name in part.classes}:
            names = f"{'.'.join(found)} as {part.name}" if found else f"no {part.name}"
            raise DataError(
                f"{path / 'model_index.json'} names {names}; {part.classes[0]} is needed.",
                remedy=f"Use a model in the layout of {family.name}.",
            )
    for name, stem in family.stems.items():
        variant = weight_variant(path / name, stem)
        read_json(path / name / "config.json")
        check_weights(path / name, f"{stem}.{variant}" if variant else stem)
    for name in (*family.names("tokenizer"), SCHEDULER):
        if not (path / name).is_dir():
            raise DataError(
                f"{path / name} does not exist.", remedy="The model folder is incomplete."
            )
    read_json(path / SCHEDULER / "scheduler_config.json")
    return family


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
