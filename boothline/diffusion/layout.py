"""The layout of a model's folder, its family, and what of a configuration the family can do."""

import json
from pathlib import Path
from typing import Any

from boothline.config import RunConfig
from boothline.config.sampling import SamplingConfig
from boothline.diffusion.families import FAMILIES, Family
from boothline.diffusion.families.family import SCHEDULER
from boothline.diffusion.weights import check_weights
from boothline.errors import ConfigError, DataError

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


def check_config(family: Family, config: RunConfig) -> None:
    """Check the settings of a run against the family of its base model.

    Raises:
        ConfigError: a setting does not fit; the message names it and what to set.
    """
    training = config.training
    if training.method not in family.methods:
        raise ConfigError(
            f"training.method {training.method} does not work for {family.name}.",
            remedy=f"Set training.method to {' or '.join(family.methods)}.",
        )
    if training.trains_text_encoder and not family.trains_text_encoders:
        raise ConfigError(
            f"The text encoders of {family.name} stay frozen, and training.train_text_encoder "
            "asks to train them.",
            remedy="Set training.train_text_encoder to false.",
        )
    if family.is_flow and training.min_snr_gamma is not None:
        raise ConfigError(
            f"training.min_snr_gamma weighs a noise schedule, and {family.name} is trained by flow "
            "matching.",
            remedy="Leave training.min_snr_gamma unset.",
        )
    if not family.is_flow and training.timestep_density is not None:
        raise ConfigError(
            f"training.timestep_density is for flow matching; the timesteps of {family.name} are "
            "uniform.",
            remedy="Leave training.timestep_density unset.",
        )
    sections = {
        "evaluation.sampling": config.evaluation.sampling,
        "inference.sampling": config.inference.sampling,
        **({"prior.sampling": config.prior.sampling} if config.prior.enabled else {}),
    }
    for name, sampling in sections.items():
        check_sampler(family, sampling, name=name)


def check_sampler(family: Family, sampling: SamplingConfig, *, name: str) -> None:
    """Check that a sampler and its settings fit a family.

    Args:
        family: of the model.
        sampling: the settings.
        name: of their section, for the message.

    Raises:
        ConfigError: they do not fit.
    """
    if sampling.sampler not in family.samplers:
        raise ConfigError(
            f"{name}.sampler {sampling.sampler} does not fit {family.name}.",
            remedy=f"Set {name}.sampler to {' or '.join(family.samplers)}.",
        )
    if family.guidance == "embedded" and sampling.negative_prompt:
        raise ConfigError(
            f"{family.name} has no negative prompts: its guidance is an input of the network.",
            remedy=f"Leave {name}.negative_prompt empty.",
        )
