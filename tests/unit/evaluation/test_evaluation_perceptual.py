import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from boothline.diffusion.base_model import BaseModel
from boothline.errors import ConfigError
from boothline.evaluation.perceptual import Lpips

CONVOLUTIONS = {
    "net.slice1.0": (64, 3, 11),
    "net.slice2.3": (192, 64, 5),
    "net.slice3.6": (384, 192, 3),
    "net.slice4.8": (256, 384, 3),
    "net.slice5.10": (256, 256, 3),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Random weights under the names of the lpips package."""
    folder = tmp_path_factory.mktemp("lpips")
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for number, (name, (out, into, side)) in enumerate(CONVOLUTIONS.items()):
        weights[f"{name}.weight"] = (
            torch.randn(out, into, side, side, generator=generator) / (into * side * side) ** 0.5
        )
        weights[f"{name}.bias"] = torch.randn(out, generator=generator) * 0.1
        weights[f"lin{number}.model.1.weight"] = torch.rand(1, out, 1, 1, generator=generator)
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "lpips", "net": "alex"}))
    return folder


def _model(folder: Path) -> BaseModel:
    return BaseModel(path=folder, digest="", source="lpips")


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    arrays = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    return [Image.fromarray(array) for array in arrays]


def _reference(first: Image.Image, second: Image.Image, weights: dict[str, torch.Tensor]) -> float:
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    x = torch.stack([torch.from_numpy(np.array(i)) for i in (first, second)]) / 127.5 - 1
    x, total = ((x - shift) / scale).permute(0, 3, 1, 2), 0.0
    for number, (name, (_, _, side)) in enumerate(CONVOLUTIONS.items()):
        x = F.max_pool2d(x, 3, 2) if number in (1, 2) else x
        kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        x = F.conv2d(x, kernel, bias, 4 if number == 0 else 1, min(side // 2, 2))
        x = F.relu(x)
        unit = x / x.norm(dim=1, keepdim=True)
        difference = (unit[0] - unit[1]).square() * weights[f"lin{number}.model.1.weight"][0]
        total += float(difference.sum(dim=0).mean())
    return total


def test_lpips_equals_a_ten_line_reference(folder, images):
    weights = load_file(folder / "model.safetensors")
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = [_reference(images[a], images[b], weights) for a, b in pairs]
    assert Lpips(_model(folder)).between(images) == pytest.approx(expected, rel=1e-4)


def test_lpips_of_equal_pictures_is_zero(folder, images):
    assert Lpips(_model(folder)).between([images[0]] * 2) == pytest.approx([0.0], abs=1e-9)


def test_lpips_on_another_network_is_refused(folder, tmp_path):
    (tmp_path / "config.json").write_text('{"net": "vgg"}')
    with pytest.raises(ConfigError, match="only 'alex'"):
        Lpips(_model(tmp_path))


def test_lpips_with_other_weights_is_refused(folder, tmp_path):
    (tmp_path / "config.json").write_text('{"net": "alex"}')
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        Lpips(_model(tmp_path))
