"""Writes the trained models as plain diffusers and transformers folders, half precision."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, CLIPTokenizer, Dinov2Model

from boothline.errors import BoothlineError
from models.build.backgrounds import WORLD_PX
from models.build.unet import SCHEDULE

PIPELINE_FOLDER: Final = "tiny-emoji-sd"
CLIP_FOLDER: Final = "tiny-emoji-clip"
IMAGE_ENCODER_FOLDER: Final = "tiny-emoji-dino"
PROGRESS_FILE: Final = "progress.json"

Progress = dict[str, dict[str, float]]
"""By stage: the `step` reached and the `seconds` spent on it."""


class ProgressError(BoothlineError):
    """Exported models do not say how far they are trained."""


_HALF: Final = (0.5, 0.5, 0.5)


def export_pipeline(
    *,
    autoencoder: AutoencoderKL,
    clip: CLIPModel,
    tokenizer: CLIPTokenizer,
    unet: UNet2DConditionModel,
    output: Path,
) -> Path:
    """Write the text-to-image pipeline and return its folder."""
    pipeline = StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=clip.text_model,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(**SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )

    def write(folder: Path) -> None:
        pipeline.save_pretrained(folder)
        _write_vocabulary(tokenizer, folder=folder / "tokenizer")

    return _replace_folder(output / PIPELINE_FOLDER, write=write)


def export_clip(clip: CLIPModel, *, tokenizer: CLIPTokenizer, output: Path) -> Path:
    """Write the CLIP pair with its processor and return the folder."""

    def write(folder: Path) -> None:
        clip.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        _write_vocabulary(tokenizer, folder=folder)
        _write_processor("CLIPImageProcessor", folder=folder)

    return _replace_folder(output / CLIP_FOLDER, write=write)


def export_image_encoder(encoder: Dinov2Model, *, output: Path) -> Path:
    """Write the self-supervised image encoder with its processor and return the folder."""

    def write(folder: Path) -> None:
        encoder.save_pretrained(folder)
        _write_processor("BitImageProcessor", folder=folder)

    return _replace_folder(output / IMAGE_ENCODER_FOLDER, write=write)


def write_progress(progress: Progress, *, models: Path) -> None:
    """Write how far exported models are trained, so that training can continue from them."""
    (models / PROGRESS_FILE).write_text(json.dumps(progress, indent=2) + "\n")


def read_progress(models: Path | None) -> Progress:
    """Return how far exported models are trained.

    Raises:
        ProgressError: no models are named, or they do not say it.
    """
    if models is None:
        raise ProgressError("no models were named: pass --begin-from MODELS")
    try:
        progress: Progress = json.loads((models / PROGRESS_FILE).read_text())
    except FileNotFoundError as error:
        raise ProgressError(f"{models} has no {PROGRESS_FILE}: export into it first") from error
    return progress


def _write_vocabulary(tokenizer: CLIPTokenizer, *, folder: Path) -> None:
    """Write `vocab.json` and `merges.txt` too, for readers that do not know `tokenizer.json`."""
    tokenizer.backend_tokenizer.model.save(str(folder))


def _write_processor(name: str, *, folder: Path) -> None:
    settings = {
        "image_processor_type": name,
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": WORLD_PX, "width": WORLD_PX},
        "resample": 3,
        "do_center_crop": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(_HALF),
        "image_std": list(_HALF),
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def _replace_folder(folder: Path, *, write: Callable[[Path], object]) -> Path:
    """Write a folder next to its place and swap it in; a model card in the old one stays."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial)
    for weights in partial.rglob("*.safetensors"):
        _halve(weights)
    for kept in ("README.md", "samples.png", "personalised.png"):
        if (folder / kept).is_file():
            shutil.copy2(folder / kept, partial / kept)
    retired = folder.with_name(f".{folder.name}.retired")
    shutil.rmtree(retired, ignore_errors=True)
    if folder.exists():
        folder.rename(retired)
    partial.rename(folder)
    shutil.rmtree(retired, ignore_errors=True)
    return folder


def _halve(path: Path) -> None:
    """Store float32 weights as float16; the configurations keep saying float32."""
    tensors = {
        name: tensor.half() if tensor.dtype == torch.float32 else tensor
        for name, tensor in load_file(path).items()
    }
    save_file(tensors, path, metadata={"format": "pt"})
