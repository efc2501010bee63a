"""Trains an independent classifier that names the noun and the background of a picture."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from models.build.autoencoder import to_tensor
from models.build.scenes import SceneSet
from models.build.stage import StepDraw
from models.build.vocabulary import VOCABULARY, Vocabulary


class Judge(nn.Module):
    """A plain convolutional classifier; it shares no architecture, weights or seed with the models.

    Args:
        vocabulary: what it can name.
        width: channels of the first convolution.
    """

    def __init__(self, vocabulary: Vocabulary = VOCABULARY, *, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        widths = (3, width, 2 * width, 4 * width, 4 * width)
        for inputs, outputs in itertools.pairwise(widths):
            layers += [
                nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
            ]
        self.features = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2))
        flat = 4 * width * 16
        self.noun = nn.Linear(flat, len(vocabulary.nouns))
        self.background = nn.Linear(flat, len(vocabulary.backgrounds))

    def forward(self, pixels_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return noun logits and background logits of pictures in [-1, 1], 64 x 64."""
        features = self.features(pixels_BCHW)
        return self.noun(features), self.background(features)


class JudgeObjective:
    """Cross-entropy over nouns and backgrounds of true scenes.

    Args:
        model: the classifier.
        scenes: captioned training scenes.
        batch_size: scenes in a step.
    """

    def __init__(self, model: Judge, *, scenes: SceneSet, batch_size: int) -> None:
        self.model = model
        self.modules: Mapping[str, nn.Module] = {"judge": model}
        self._scenes = scenes
        self._batch_size = batch_size

    def loss(self, draw: StepDraw) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the loss of one step and the noun accuracy."""
        torch.manual_seed(draw.step)  # of the dropout
        picked = np.sort(draw.indices(self._batch_size, below=len(self._scenes)))
        pixels = to_tensor(self._scenes.pixels_NHWC[picked]).to(draw.device)
        pixels = pixels + 0.1 * draw.uniform(len(picked), 1, 1, 1) * draw.normal(*pixels.shape)
        noun_logits, background_logits = self.model(pixels)
        nouns = torch.from_numpy(self._scenes.nouns[picked]).to(draw.device)
        backgrounds = torch.from_numpy(self._scenes.backgrounds[picked]).to(draw.device)
        loss = functional.cross_entropy(noun_logits, nouns, label_smoothing=0.05)
        loss = loss + functional.cross_entropy(background_logits, backgrounds)
        return loss, {"noun_accuracy": float((noun_logits.argmax(1) == nouns).float().mean())}


@torch.no_grad()
def judge_pictures(
    model: Judge, pixels_BCHW: torch.Tensor, *, batch_size: int = 128
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the noun labels and the background labels that the judge gives, int64 (B,)."""
    device = next(model.parameters()).device
    model.eval()
    verdicts = [
        [logits.argmax(dim=1).cpu() for logits in model(part.to(device))]
        for part in torch.split(pixels_BCHW, batch_size)
    ]
    return torch.cat([verdict[0] for verdict in verdicts]), torch.cat([v[1] for v in verdicts])
