"""The layout of a model's folder, its family, and what of a configuration the family can do."""

import json
from pathlib import Path
from typing import Any, Final

import yaml

from boothline.config import RunConfig
from boothline.config.sampling import SamplingConfig
from boothline.diffusion.families import FAMILIES, Family
from boothline.diffusion.families.family import SCHEDULER
from boothline.errors import ConfigError, DataError, MachineError

_LENGTH_BYTES: Final = 8
_MAX_HEADER_BYTES: Final = 100_000_000
_POINTER: Final = b"version https://git-lfs"


def check_weights(folder: Path, stem: str) -> None:
    """Check that every weights file of a network is whole, in one file or several.

    The format of safetensors: 8 bytes with the length of a JSON object, that object, and the
    numbers behind it (https://huggingface.co/docs/safetensors).

    Args:
        folder: of the network.
        stem: name of its weights without their suffix, with the variant.

    Raises:
        DataError: a file is missing, cut off, or not what its name says.
    """
    index = folder / f"{stem}.safetensors.index.json"
    whole = folder / f"{stem}.safetensors"
    for path in [whole] if whole.is_file() else _shards(index):
        names_in(path)


def names_in(path: Path) -> frozenset[str]:
    """Return the names of the tensors in a file whose size fits its header.

    Raises:
        DataError: it does not, or is not such a file.
    """
    try:
        size_bytes = path.stat().st_size
        with path.open("rb") as stream:
            start = stream.read(_LENGTH_BYTES)
            if (start + stream.read(len(_POINTER))).startswith(_POINTER):
                raise DataError(
                    f"{path} is a pointer of Git LFS, not the weights themselves.",
                    remedy="Fetch them with `git lfs pull` in that folder.",
                )
            length = int.from_bytes(start, "little")
            if length > min(size_bytes - _LENGTH_BYTES, _MAX_HEADER_BYTES):
                raise ValueError(f"its header would have {length} bytes")
            stream.seek(_LENGTH_BYTES)
            header = json.loads(stream.read(length))
        tensors = {name: value for name, value in header.items() if name != "__metadata__"}
        ends = (int(value["data_offsets"][1]) for value in tensors.values())
        expected_bytes = _LENGTH_BYTES + length + max(ends, default=0)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing.", remedy="The model folder is incomplete.") from error
    except OSError as error:
        raise MachineError(
            f"{path} cannot be read: {error.strerror or error}.",
            remedy="This says nothing about its content. Check the disk and who may read it.",
        ) from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path} is not a safetensors file: {str(error) or type(error).__name__}.",
            remedy="Download or convert it again.",
        ) from error
    if size_bytes < expected_bytes:
        raise DataError(
            f"{path} is cut off: it has {size_bytes} of {expected_bytes} bytes.",
            remedy="Download it again.",
        )
    return frozenset(tensors)


def _shards(index: Path) -> list[Path]:
    """Return the files that an index of weights names."""
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        return [index.parent / str(name) for name in names]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{index} is not an index of weights: {error}.",
            remedy="The model folder is incomplete: download it again.",
        ) from error


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
    if training.token_embedding.enabled and not family.trains_text_encoders:
        raise ConfigError(
            f"training.token_embedding does not work for {family.name}, whose text encoders stay "
            "as they are.",
            remedy="Set training.token_embedding.enabled to false.",
        )
    if training.caption_dropout and training.runs_text_encoder and not family.empty_is_text:
        own = training.token_embedding.enabled
        setting = "token_embedding.enabled" if own else "train_text_encoder"
        raise ConfigError(
            f"training.caption_dropout {training.caption_dropout:g} does not work with trained "
            f"text encoders for {family.name}, whose empty prompt is zeros.",
            remedy=f"Set training.{setting} to false, or training.caption_dropout to 0.",
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


def check_sampler(family: Family, sampling: SamplingConfig, *, name: str = "") -> None:
    """Check that a sampler and its settings fit a family.

    Args:
        family: of the model.
        sampling: the settings.
        name: of their section, for the message; empty: they were not read from a file.

    Raises:
        ConfigError: they do not fit.
    """
    at = f"{name}." if name else ""
    if sampling.sampler not in family.samplers:
        raise ConfigError(
            f"{at or 'The '}sampler {sampling.sampler} does not fit {family.name}.",
            remedy=f"Set {at}sampler to {' or '.join(family.samplers)}.",
        )
    if family.guidance == "embedded" and sampling.negative_prompt:
        raise ConfigError(
            f"{family.name} has no negative prompts: its guidance is an input of the network.",
            remedy=f"Leave {at}negative_prompt empty.",
        )


def license_of(folder: Path) -> str:
    """Return the licence that a model card names; empty without one."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8")
        _, head, _ = text.split("---\n", 2)
        card = yaml.safe_load(head)
    except (OSError, ValueError, yaml.YAMLError):
        return ""
    found = card.get("license_name") or card.get("license") if isinstance(card, dict) else ""
    return str(found or "")
