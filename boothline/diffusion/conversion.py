"""Turns a single file of weights into a diffusers folder, by diffusers' own converters."""

import logging
import shutil
from pathlib import Path

import diffusers
import torch
from safetensors import SafetensorError, safe_open

from boothline.diffusion.families import FAMILIES
from boothline.diffusion.layout import family_of
from boothline.diffusion.loading import DiffusionParts, load_pipeline, quiet_libraries
from boothline.diffusion.single_file import original_weights
from boothline.errors import DataError, MachineError, is_machine_fault

logger = logging.getLogger(__name__)

_HALVES = {"F16": torch.float16, "BF16": torch.bfloat16}


def convert_single_file(file: Path, folder: Path, *, layout: Path) -> None:
    """Write a diffusers folder from a file of Stable Diffusion or SDXL; nothing is downloaded.

    A single file has weights alone. Settings, tokenizers and the noise schedule are those of a
    folder of the same architecture, whose weights are not read. Every weight of the result is then
    compared with the file.

    Args:
        file: the checkpoint, in safetensors, with the original names.
        folder: what to write; must not exist.
        layout: folder of a model of the same architecture.

    Raises:
        DataError: the file cannot be read, is of another architecture, or its weights did not all
            arrive.
    """
    family = family_of(layout)
    if family.single_file is None:
        known = [other.name for other in FAMILIES.values() if other.single_file]
        raise DataError(
            f"Single files of {family.name} are not converted.",
            remedy=f"Use a folder in diffusers' layout, or a file of {' or '.join(known)}.",
        )
    dtype = _stored_dtype(file)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with quiet_libraries():
        try:
            pipeline = getattr(diffusers, family.pipeline).from_single_file(
                str(file), config=str(layout), local_files_only=True, torch_dtype=dtype,
                **family.extras,
            )  # fmt: skip
            pipeline.save_pretrained(partial, safe_serialization=True)
        except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            if is_machine_fault(error):
                raise MachineError(
                    f"{file} could not be converted here: {error}.",
                    remedy="This says nothing about the file. Free memory or disk space.",
                ) from error
            raise DataError(
                f"{file} cannot be converted in the layout of {layout}: "
                f"{' '.join(str(error).split())[:300]}",
                remedy="Name the folder of a model of the same architecture as the layout.",
            ) from error
    try:
        _check_arrived(file, load_pipeline(partial, device="cpu"))
    except DataError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    partial.rename(folder)
    logger.info("converted %s to %s", file, folder)


def _stored_dtype(file: Path) -> torch.dtype:
    """Return the type of a checkpoint's weights: float32, float16 or bfloat16."""
    if file.suffix != ".safetensors":
        raise DataError(
            f"{file} is not a safetensors file; others can run code when opened.",
            remedy="Convert it to .safetensors on a machine you trust.",
        )
    try:
        with safe_open(file, framework="pt") as weights:
            kinds = {weights.get_slice(key).get_dtype() for key in weights.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise DataError(f"{file} cannot be read: {error}.", remedy="Check the file.") from error
    return _HALVES.get(min(kinds, default="")) or torch.float32


def _check_arrived(file: Path, parts: DiffusionParts) -> None:
    """Raise `DataError` unless every weight of a model is the file's."""
    with safe_open(file, framework="pt") as weights:
        names = set(weights.keys())
        for key, weight in original_weights(parts).items():
            if key not in names:
                raise DataError(
                    f"{file} holds no {key}.", remedy="Use a file with all parts of a model."
                )
            stored = weights.get_tensor(key).reshape(weight.shape).to(weight.dtype)
            if not torch.equal(stored, weight):
                raise DataError(
                    f"The weight {key} of {file} was not taken over by the conversion.",
                    remedy="Use a folder in diffusers' layout.",
                )
