"""Begins models from exported ones: tensors of another shape keep the corner that both have."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPModel, CLIPTokenizer, Dinov2Model

from models.build.autoencoder import build_autoencoder
from models.build.clip import build_clip
from models.build.export import CLIP_FOLDER, IMAGE_ENCODER_FOLDER, PIPELINE_FOLDER
from models.build.image_encoder import build_image_encoder
from models.build.recipe import Recipe
from models.build.unet import build_unet

logger = logging.getLogger(__name__)

_MOMENTS: Final = ("encoder.conv_out.weight", "encoder.conv_out.bias", "quant_conv.bias")
"""Outputs that hold the means and then the log variances: each half has its own corner."""


class Beginnings:
    """The models as their stages begin: of the recipe's sizes, with its seed.

    Args:
        recipe: sizes and seed.
        models: folder of exported models whose weights they take over; None begins with chance.
    """

    def __init__(self, recipe: Recipe, *, models: Path | None) -> None:
        self._recipe = recipe
        self._models = models

    def autoencoder(self) -> AutoencoderKL:
        """Return the autoencoder."""
        torch.manual_seed(self._recipe.seed)
        model = build_autoencoder(self._recipe.autoencoder)
        if self._models:
            begin_autoencoder(model, models=self._models)
        return model

    def known_autoencoder(self) -> AutoencoderKL | None:
        """Return the exported autoencoder as it is; None where the stages begin with chance."""
        if self._models is None:
            return None
        saved: AutoencoderKL = AutoencoderKL.from_pretrained(self._models / PIPELINE_FOLDER / "vae")
        return saved.requires_grad_(False).eval()

    def clip(self, tokenizer: CLIPTokenizer) -> CLIPModel:
        """Return the CLIP pair."""
        torch.manual_seed(self._recipe.seed + 1)
        model = build_clip(self._recipe, tokenizer=tokenizer)
        if self._models:
            begin_clip(model, tokenizer=tokenizer, models=self._models)
        return model

    def image_encoder(self) -> Dinov2Model:
        """Return the self-supervised image encoder."""
        torch.manual_seed(self._recipe.seed + 2)
        model = build_image_encoder(self._recipe)
        if self._models:
            begin_image_encoder(model, models=self._models)
        return model

    def unet(self) -> UNet2DConditionModel:
        """Return the UNet."""
        torch.manual_seed(self._recipe.seed + 3)
        model = build_unet(
            self._recipe.unet,
            latent_channels=self._recipe.autoencoder.latent_channels,
            text_width=self._recipe.text.width,
        )
        if self._models:
            begin_unet(model, models=self._models)
        return model


@torch.no_grad()
def begin_autoencoder(model: AutoencoderKL, *, models: Path) -> None:
    """Give an untrained autoencoder the weights of an exported one.

    What is wider begins without a say in the old channels, so the same latents and the old pictures
    come out. Groups of channels that are normalised together must keep their size.
    """
    saved = AutoencoderKL.from_pretrained(models / PIPELINE_FOLDER / "vae").state_dict()
    old, new = (len(weights["post_quant_conv.bias"]) for weights in (saved, model.state_dict()))
    weights = model.state_dict()
    for name, weight in weights.items():
        if weight.dim() == 4 and name != "quant_conv.weight":
            halves = 2 if name in _MOMENTS else 1
            _, num_rows, num_columns, *_ = saved[name].unflatten(0, (halves, -1)).shape
            weight.unflatten(0, (halves, -1))[:, :num_rows, num_columns:] = 0
    weights["quant_conv.weight"].view(2, new, 2, new)[:, :old, :, old:] = 0
    moments = {
        name: _with_corner(
            weights[name].unflatten(0, (2, new)), of=saved[name].unflatten(0, (2, old))
        )
        for name in _MOMENTS
    }
    name = "quant_conv.weight"  # moments in, moments out
    moments[name] = _with_corner(
        weights[name].view(2, new, 2, new), of=saved[name].view(2, old, 2, old)
    )
    taken = {name: halves.reshape(weights[name].shape) for name, halves in moments.items()}
    overlay(model, {**saved, **taken})


def _with_corner(weight: torch.Tensor, *, of: torch.Tensor) -> torch.Tensor:
    """Return a copy of `weight` with the corner that it shares with another tensor taken over."""
    corner = tuple(slice(min(sides)) for sides in zip(of.shape, weight.shape, strict=True))
    result = weight.clone()
    result[corner] = of[corner]
    return result


def begin_clip(model: CLIPModel, *, tokenizer: CLIPTokenizer, models: Path) -> None:
    """Give an untrained CLIP pair the weights of an exported one, token by token."""
    saved = CLIPModel.from_pretrained(models / CLIP_FOLDER).state_dict()
    known = CLIPTokenizer.from_pretrained(models / CLIP_FOLDER).get_vocab()
    name = "text_model.embeddings.token_embedding.weight"
    table = model.state_dict()[name].clone()
    width = min(table.shape[1], saved[name].shape[1])
    for token, number in tokenizer.get_vocab().items():
        if token in known:
            table[number, :width] = saved[name][known[token], :width]
    overlay(model, {**saved, name: table})


def begin_image_encoder(model: Dinov2Model, *, models: Path) -> None:
    """Give an untrained image encoder the weights of an exported one."""
    overlay(model, Dinov2Model.from_pretrained(models / IMAGE_ENCODER_FOLDER).state_dict())


def begin_unet(model: UNet2DConditionModel, *, models: Path) -> None:
    """Give an untrained UNet the weights of an exported one."""
    saved = UNet2DConditionModel.from_pretrained(models / PIPELINE_FOLDER / "unet")
    overlay(model, saved.state_dict())


@torch.no_grad()
def overlay(model: nn.Module, saved: Mapping[str, torch.Tensor]) -> None:
    """Copy saved weights into a model; of another shape, the corner that both have.

    Args:
        model: changed in place.
        saved: name -> weights; absent names keep what the model has.
    """
    absent, partial = [], []
    for name, weight in model.state_dict().items():
        if name not in saved or saved[name].dim() != weight.dim():
            absent.append(name)
            continue
        weight.copy_(_with_corner(weight, of=saved[name]))
        if saved[name].shape != weight.shape:
            partial.append(name)
    text = "%s: taken over but for %d tensors that begin untrained and %d that do in part"
    logger.info(text, type(model).__name__, len(absent), len(partial))
