"""Trains the self-supervised image encoder that judges subject fidelity; it never sees captions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import Dinov2Config, Dinov2Model

from models.build.autoencoder import to_tensor
from models.build.backgrounds import WORLD_PX
from models.build.recipe import Recipe
from models.build.scenes import SceneSet
from models.build.stage import StepDraw

_TEMPERATURE = 0.1
_PROJECTION_WIDTH = 128


def build_image_encoder(recipe: Recipe) -> Dinov2Model:
    """Return an untrained vision transformer for 64-pixel pictures."""
    size = recipe.image_encoder
    config = Dinov2Config(
        image_size=WORLD_PX,
        patch_size=recipe.patch_px,
        hidden_size=size.width,
        mlp_ratio=4,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
    )
    return Dinov2Model(config)


class ImageEncoderObjective:
    """Instance discrimination: two scenes of one sprite attract, other sprites repel.

    Loss: NT-Xent of Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual
    Representations". The two views of a sprite differ in background, size, place, tilt and flip,
    so what stays in the embedding is the subject.

    Args:
        model: the encoder.
        scenes: wide training scenes.
        batch_size: sprites in a step; each gives two pictures.
    """

    def __init__(self, model: Dinov2Model, *, scenes: SceneSet, batch_size: int) -> None:
        self.model = model
        width = model.config.hidden_size
        self.projection = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Linear(width, _PROJECTION_WIDTH)
        )
        self.modules: Mapping[str, nn.Module] = {"encoder": model, "projection": self.projection}
        self._scenes = scenes
        self._batch_size = batch_size
        order = np.argsort(scenes.instances, kind="stable")
        bounds = np.flatnonzero(np.diff(scenes.instances[order])) + 1
        self._groups = [group for group in np.split(order, bounds) if len(group) > 1]

    def loss(self, draw: StepDraw) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the loss of one step and how often a view finds its partner first."""
        count = min(self._batch_size, len(self._groups))
        groups = draw.rng.choice(len(self._groups), count, replace=False)
        pairs = np.stack(
            [draw.rng.choice(self._groups[group], 2, replace=False) for group in groups], axis=1
        )
        pixels = to_tensor(self._scenes.pixels_NHWC[pairs.reshape(-1)]).to(draw.device)
        embedded = self.projection(self.model(pixel_values=pixels).last_hidden_state[:, 0])
        unit = functional.normalize(embedded.float(), dim=1)
        similarity = unit @ unit.T / _TEMPERATURE
        similarity.fill_diagonal_(-1e4)
        target = torch.arange(2 * count, device=draw.device).roll(count)
        loss = functional.cross_entropy(similarity, target)
        found = (similarity.argmax(dim=1) == target).float().mean()
        return loss, {"partner_found": float(found)}


@torch.no_grad()
def embed_subjects(
    model: Dinov2Model, pixels_BCHW: torch.Tensor, *, batch_size: int = 64
) -> torch.Tensor:
    """Return the class-token embeddings, float32, (B, D), of pictures in [-1, 1]."""
    device = next(model.parameters()).device
    embeddings = [
        model(pixel_values=part.to(device)).last_hidden_state[:, 0]
        for part in torch.split(pixels_BCHW, batch_size)
    ]
    return torch.cat(embeddings).float().cpu()
