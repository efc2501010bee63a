"""Trains the CLIP pair: one space for captions and pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from models.build.autoencoder import to_tensor
from models.build.backgrounds import WORLD_PX
from models.build.recipe import Recipe
from models.build.scenes import SceneSet
from models.build.stage import StepDraw
from models.build.tokenizer import tokenize
from models.build.vocabulary import IDENTIFIERS, VOCABULARY, plain_caption

_IDENTIFIER_RATE = 0.03
_LABEL_WEIGHT = 0.5
_RECOLOURED_RATE = 0.5


def build_clip(recipe: Recipe, *, tokenizer: CLIPTokenizer) -> CLIPModel:
    """Return an untrained CLIP for the tokenizer and 64-pixel pictures."""
    text, vision = recipe.text, recipe.vision
    tokens = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = CLIPConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": text.width,
            "intermediate_size": 4 * text.width,
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "max_position_embeddings": recipe.max_tokens,
            "projection_dim": recipe.clip_width,
            **tokens,
        },
        vision_config={
            "image_size": WORLD_PX,
            "patch_size": recipe.patch_px,
            "hidden_size": vision.width,
            "intermediate_size": 4 * vision.width,
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.heads,
            "projection_dim": recipe.clip_width,
        },
        projection_dim=recipe.clip_width,
        **tokens,
    )
    return CLIPModel(config)


class ClipObjective:
    """The symmetric contrastive loss, helped by two label heads that are thrown away afterwards.

    Loss: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language
    Supervision". The heads (noun, background) read both towers: with few scenes in a batch they
    give a steadier gradient than the contrast alone.

    Args:
        model: the CLIP pair.
        tokenizer: of its text tower.
        scenes: captioned training scenes.
        batch_size: pairs in a step.
        pictures_only: keep the text tower, so that a UNet that reads it stays valid, and give half
            of the pictures another hue and a caption that names the noun alone: with one or two
            emoji of a noun, a tower learns their colours where it should learn the shape.
    """

    def __init__(
        self,
        model: CLIPModel,
        *,
        tokenizer: CLIPTokenizer,
        scenes: SceneSet,
        batch_size: int,
        pictures_only: bool = False,
    ) -> None:
        self.model = model
        if pictures_only:
            model.text_model.requires_grad_(False)
        width = model.config.projection_dim
        self.noun_head = nn.Linear(width, len(VOCABULARY.nouns))
        self.background_head = nn.Linear(width, len(VOCABULARY.backgrounds))
        self.modules: Mapping[str, nn.Module] = {
            "clip": model,
            "noun_head": self.noun_head,
            "background_head": self.background_head,
        }
        self._nouns = VOCABULARY.noun_names
        self._tokenizer = tokenizer
        self._scenes = scenes
        self._batch_size = batch_size
        self._recoloured_rate = _RECOLOURED_RATE if pictures_only else 0.0

    def loss(self, draw: StepDraw) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the loss of one step and the in-batch and label accuracies."""
        picked = np.sort(draw.indices(self._batch_size, below=len(self._scenes)))
        pixels = to_tensor(self._scenes.pixels_NHWC[picked]).to(draw.device)
        captions = [self._caption(int(index), draw=draw) for index in picked]
        recoloured = draw.rng.random(len(picked)) < self._recoloured_rate
        for place in np.flatnonzero(recoloured):
            angle = draw.rng.uniform(0, 2 * math.pi)
            pixels[place] = rotate_hue(pixels[place], angle=angle)
            captions[place] = plain_caption(self._nouns[self._scenes.nouns[picked[place]]])
        tokens = torch.tensor(tokenize(self._tokenizer, captions), device=draw.device)
        output = self.model(input_ids=tokens, pixel_values=pixels)
        logits = output.logits_per_image
        target = torch.arange(len(picked), device=draw.device)
        contrast = 0.5 * (
            functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)
        )
        nouns = torch.from_numpy(self._scenes.nouns[picked]).to(draw.device)
        backgrounds = torch.from_numpy(self._scenes.backgrounds[picked]).to(draw.device)
        scale = math.sqrt(output.image_embeds.shape[1])
        image, text = output.image_embeds * scale, output.text_embeds * scale
        noun_logits = self.noun_head(image)
        background_logits = self.background_head(image)
        labels = (
            functional.cross_entropy(noun_logits, nouns)
            + functional.cross_entropy(background_logits[~recoloured], backgrounds[~recoloured])
            + functional.cross_entropy(self.noun_head(text), nouns)
        )
        figures = {
            "in_batch_accuracy": _accuracy(logits, target),
            "noun_accuracy": _accuracy(noun_logits, nouns),
            "background_accuracy": _accuracy(background_logits, backgrounds),
        }
        return contrast + _LABEL_WEIGHT * labels, figures

    def _caption(self, index: int, *, draw: StepDraw) -> str:
        """Return a caption; now and then with a rare identifier, which must mean nothing."""
        caption = self._scenes.captions[index]
        if draw.rng.random() >= _IDENTIFIER_RATE:
            return caption
        noun = self._nouns[int(self._scenes.nouns[index])]
        identifier = IDENTIFIERS[int(draw.rng.integers(len(IDENTIFIERS)))]
        return caption.replace(noun, f"{identifier} {noun}", 1)


def rotate_hue(pixels_CHW: torch.Tensor, *, angle: float) -> torch.Tensor:
    """Return a picture in [-1, 1] with its colours turned about the grey axis (Rodrigues' formula).

    Args:
        pixels_CHW: RGB.
        angle: in radians; a third of a turn makes red green.
    """
    third, root = (1 - math.cos(angle)) / 3, math.sin(angle) / math.sqrt(3)
    same, next_, last = math.cos(angle) + third, third - root, third + root
    turn = torch.tensor([[same, next_, last], [last, same, next_], [next_, last, same]])
    return torch.einsum("ij,jhw->ihw", turn.to(pixels_CHW), pixels_CHW).clamp(-1, 1)


def _accuracy(logits: torch.Tensor, target: torch.Tensor) -> float:
    return float((logits.argmax(dim=1) == target).float().mean())


@torch.no_grad()
def embed_texts(model: CLIPModel, texts: list[str], *, tokenizer: CLIPTokenizer) -> torch.Tensor:
    """Return unit-length text embeddings, float32, (N, D)."""
    device = next(model.parameters()).device
    tokens = torch.tensor(tokenize(tokenizer, texts), device=device)
    pooled = model.text_model(input_ids=tokens).pooler_output
    return functional.normalize(model.text_projection(pooled), dim=1).cpu()


@torch.no_grad()
def embed_pictures(
    model: CLIPModel, pixels_BCHW: torch.Tensor, *, batch_size: int = 64
) -> torch.Tensor:
    """Return unit-length picture embeddings, float32, (B, D), of pictures in [-1, 1]."""
    device = next(model.parameters()).device
    embeddings = [
        model.visual_projection(model.vision_model(pixel_values=part.to(device)).pooler_output)
        for part in torch.split(pixels_BCHW, batch_size)
    ]
    return functional.normalize(torch.cat(embeddings), dim=1).cpu()
