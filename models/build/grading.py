"""Measures what a workshop exported, and writes it into the model card."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from torch import nn
from transformers import CLIPModel, Dinov2Model

from models.build.card import write_card
from models.build.evaluate import (
    measure_autoencoder,
    measure_clip,
    measure_generation,
    measure_judge,
    measure_likeness,
)
from models.build.export import CLIP_FOLDER, IMAGE_ENCODER_FOLDER, PIPELINE_FOLDER
from models.build.generation import contact_sheet, load_pipeline
from models.build.stage import training_device
from models.build.workshop import Workshop

_NUM_SHEET_PICTURES: Final = 64


def grade(shop: Workshop) -> dict[str, Any]:
    """Measure the exported models on held-out scenes, print the figures and keep a sheet."""
    progress = shop.progress()
    scenes = shop.scenes.captioned(shop.recipe.num_held_out_scenes, held_out=True)
    judge = shop.trained_judge()
    pipeline = load_pipeline(shop.output / PIPELINE_FOLDER, device=training_device())
    clip = CLIPModel.from_pretrained(shop.output / CLIP_FOLDER)
    encoder = Dinov2Model.from_pretrained(shop.output / IMAGE_ENCODER_FOLDER)
    generation, pictures = measure_generation(pipeline, judge=judge, recipe=shop.recipe)
    figures: dict[str, Any] = {
        "autoencoder_psnr_db": measure_autoencoder(pipeline.vae, scenes),
        "clip": measure_clip(clip, tokenizer=shop.tokenizer, scenes=scenes),
        "judge_on_real_scenes": measure_judge(judge, scenes),
        "generation": generation,
        "likeness": measure_likeness(pipeline, encoder=encoder, scenes=scenes, recipe=shop.recipe),
        "personalised": _personalised(shop.state),
        "training_steps": {stage: reached["step"] for stage, reached in progress.items()},
        "training_seconds": {stage: reached["seconds"] for stage, reached in progress.items()},
    }
    sheet = contact_sheet(pictures[:_NUM_SHEET_PICTURES], columns=8)
    sheet.save(shop.output / PIPELINE_FOLDER / "samples.png")
    parts = {
        "UNet": pipeline.unet,
        "autoencoder": pipeline.vae,
        "text encoder": pipeline.text_encoder,
        "CLIP pair (`tiny-emoji-clip`)": clip,
        "image encoder (`tiny-emoji-dino`)": encoder,
    }
    parameters = {name: _num_parameters(model) for name, model in parts.items()}
    card = shop.output / PIPELINE_FOLDER / "README.md"
    write_card(figures, recipe=shop.recipe, parameters=parameters, path=card)
    text = json.dumps(figures, indent=2)
    (shop.state / "evaluation.json").write_text(text + "\n")
    sys.stdout.write(text + "\n")
    return figures


def _personalised(state: Path) -> list[dict[str, Any]]:
    """Return what `benchmarks/personalisation.py` measured last; empty before."""
    path = state / "personalisation.json"
    return list(json.loads(path.read_text())) if path.is_file() else []


def _num_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
