"""LPIPS, the perceptual distance that the DreamBooth paper measures diversity with.

Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018,
with their default network AlexNet. The known packages bring torchvision and fetch pickled weights
on first use; the five layers that it takes are read here from one safetensors file, whose names are
those of the `lpips` package.
"""

import json
from collections.abc import Sequence
from itertools import combinations
from typing import Final, Protocol

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from boothline.diffusion.base_model import BaseModel
from boothline.errors import ConfigError
from boothline.evaluation.folders import LPIPS_NET, LPIPS_REMEDY
from boothline.evaluation.metrics import Scores

WEIGHTS: Final = "model.safetensors"
_EPSILON: Final = 1e-10
_SHIFT: Final = (-0.030, -0.088, -0.188)
_SCALE: Final = (0.458, 0.448, 0.450)


class PictureDistance(Protocol):
    """Measures how different pictures look."""

    def between(self, images: Sequence[Image.Image]) -> Scores:
        """Return the distance of every pair of pictures: (0, 1), (0, 2), ..., (1, 2), ..."""


class _Distance(nn.Module):
    """AlexNet's five feature maps, compared place by place and weighted channel by channel.

    The names of the parts are those of the weights file.
    """

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        slices: dict[str, nn.Module] = {
            "slice1": nn.Sequential(
                # The numbers are AlexNet's; they are part of the weights' names.
                nn.Conv2d(3, 64, 11, stride=4, padding=2),
                nn.ReLU(),
            ),
            "slice2": _named({"2": nn.MaxPool2d(3, 2), "3": nn.Conv2d(64, 192, 5, padding=2)}),
            "slice3": _named({"5": nn.MaxPool2d(3, 2), "6": nn.Conv2d(192, 384, 3, padding=1)}),
            "slice4": _named({"8": nn.Conv2d(384, 256, 3, padding=1)}),
            "slice5": _named({"10": nn.Conv2d(256, 256, 3, padding=1)}),
        }
        self.net = nn.ModuleDict(slices)
        for number, channels in enumerate((64, 192, 384, 256, 256)):
            head = nn.ModuleDict(
                {"model": _named({"1": nn.Conv2d(channels, 1, 1, bias=False)}, relu=False)}
            )
            self.add_module(f"lin{number}", head)
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1), persistent=False)

    def features(self, pixels_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """Return the five maps of pixels in [-1, 1], unit length at every place."""
        hidden: torch.Tensor = (pixels_BCHW - self.shift) / self.scale
        maps: list[torch.Tensor] = []
        for part in self.net.values():
            hidden = part(hidden)
            length = hidden.square().sum(dim=1, keepdim=True).sqrt()
            maps.append(hidden / (length + _EPSILON))
        return maps

    def compare(self, first: list[torch.Tensor], second: list[torch.Tensor]) -> torch.Tensor:
        """Return (B,): distances of pictures by their maps."""
        parts = [
            self.get_submodule(f"lin{number}.model")((one - other).square()).mean(dim=(1, 2, 3))
            for number, (one, other) in enumerate(zip(first, second, strict=True))
        ]
        return torch.stack(parts).sum(dim=0)


def _named(layers: dict[str, nn.Module], *, relu: bool = True) -> nn.Sequential:
    """Return layers in a row under given names, with a ReLU at the end."""
    row = nn.Sequential()
    for name, layer in layers.items():
        row.add_module(name, layer)
    if relu:
        row.add_module("relu", nn.ReLU())
    return row


class Lpips:
    """The distance, with weights from a folder.

    Args:
        model: folder with config.json (`{"model_type": "lpips", "net": "alex"}`) and
            model.safetensors.

    Raises:
        ConfigError: the folder holds no such weights.
    """

    def __init__(self, model: BaseModel) -> None:
        config = json.loads((model.path / "config.json").read_text(encoding="utf-8"))
        if config.get("net") != LPIPS_NET:
            raise ConfigError(
                f"{model.source} holds LPIPS on {config.get('net')!r}; only {LPIPS_NET!r} is read.",
                remedy=LPIPS_REMEDY,
            )
        distance = _Distance()
        try:
            distance.load_state_dict(load_file(model.path / WEIGHTS), strict=True)
        except (OSError, RuntimeError, SafetensorError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ConfigError(
                f"The LPIPS weights of {model.source} cannot be loaded: {reason}",
                remedy=LPIPS_REMEDY,
            ) from error
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._distance = distance.eval().to(self._device)

    def between(self, images: Sequence[Image.Image]) -> Scores:
        """Return the LPIPS of every pair of RGB pictures of one size, at least 0."""
        stack = np.stack([np.asarray(image.convert("RGB"), dtype=np.float32) for image in images])
        pixels_BCHW = torch.from_numpy(stack).permute(0, 3, 1, 2) / 127.5 - 1
        pairs = list(combinations(range(len(images)), 2))
        first, second = ([pair[side] for pair in pairs] for side in (0, 1))
        with torch.inference_mode():
            maps = self._distance.features(pixels_BCHW.to(self._device))
            distances = self._distance.compare(
                [one[first] for one in maps], [one[second] for one in maps]
            )
        scores: Scores = distances.double().cpu().numpy()
        return scores
