"""Memory of a training is planned for every family from its folder's settings alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from boothline.config import RunConfig
from boothline.planning import ModelShapes, plan_memory
from boothline.planning.shapes import FAMILIES


@pytest.mark.proves("F47/counted")
@pytest.mark.parametrize(
    ("name", "training"),
    [
        ("sdxl", {"method": "full"}),
        ("sdxl", {"method": "lora", "train_text_encoder": False}),
        ("sd3", {"method": "lora", "train_text_encoder": False}),
        ("flux", {"method": "lora", "train_text_encoder": False}),
        ("klein", {"method": "lora", "train_text_encoder": False}),
        ("z_image", {"method": "lora", "train_text_encoder": False}),
        ("qwen_image", {"method": "lora", "train_text_encoder": False}),
    ],
)
def test_plan_of_a_family_counts_the_weights_of_the_loaded_model(
    family_folders: Callable[[str], Path], name: str, training: dict[str, Any]
) -> None:
    from boothline.diffusion.loading import load_pipeline
    from boothline.training.assembly import trained_networks

    config = RunConfig.model_validate(
        {"subject": {"resolution_px": 32}, "training": {**training, "caches": False}}
    )
    plan = plan_memory(config, ModelShapes.read(family_folders(name)), device="cpu")
    parts = load_pipeline(family_folders(name), device="cpu")
    denoiser = trained_networks(parts, config.training)
    networks = [parts.part(part) for part in parts.family.stems]
    assert plan.weights == sum(4 * w.numel() for net in networks for w in net.parameters())
    assert plan.num_trained == sum(w.numel() for w in denoiser.parameters() if w.requires_grad)
    assert plan.step > 0


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("sdxl", 2.57),
        ("sd35", 8.06),
        ("sd35-medium", 2.24),
        ("flux", 11.9),
        ("flux2-klein", 3.88),
        ("z-image", 6.15),
        ("qwen-image", 20.4),
    ],
)
def test_known_size_has_as_many_weights_as_the_published_model(name: str, billions: float) -> None:
    import torch

    from boothline.planning.dry_run import built

    shapes = FAMILIES[name]
    (part,) = [part for part in shapes.family.parts if part.role == "denoiser"]
    with torch.device("meta"):
        network = built(part, shapes.configs[part.name])
    count = sum(weight.numel() for weight in network.parameters())
    assert count / 1e9 == pytest.approx(billions, rel=0.01)
