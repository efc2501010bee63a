"""Masks in the loss: they go with the pictures, and what they hide gets no gradient."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from boothline.training.batches import stacked_weights
from boothline.training.masks import MaskSource, masks_of
from boothline.training.objective import FlowObjective, ScheduleObjective
from boothline.training.pictures import Crops, Picture

SIDE, LATENT = 32, 4
LEFT = np.zeros((SIDE, SIDE), dtype=np.uint8)
LEFT[:, : SIDE // 2] = 255


def pictures_with(folder: Path, *masks: np.ndarray | None) -> list[Picture]:
    """Write masks and return pictures that have them; the pictures' own files do not exist."""
    found = []
    for number, mask in enumerate(masks):
        path = folder / f"{number}.png"
        if mask is not None:
            Image.fromarray(mask).save(path)
        found.append(
            Picture(path=folder / "none.png", caption="", mask=None if mask is None else path)
        )
    return found


@pytest.mark.proves("F56/masks")
def test_weights_are_the_mean_of_the_pixels_of_each_latent(tmp_path: Path) -> None:
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    mask[:8, :8] = 255
    mask[8:12, :8] = 255
    mask[24:, 24:] = 51
    source = MaskSource(pictures_with(tmp_path, mask))
    expected = torch.zeros(LATENT, LATENT)
    expected[0, 0], expected[1, 0], expected[3, 3] = 1.0, 0.5, 0.2
    torch.testing.assert_close(source.weights(0, shape=(LATENT, LATENT)), expected)


@pytest.mark.proves("F56/masks")
def test_weights_of_a_mirrored_picture_are_mirrored(tmp_path: Path) -> None:
    source = MaskSource(pictures_with(tmp_path, LEFT))
    plain = source.weights(0, shape=(LATENT, LATENT))
    assert plain[0].tolist() == [1, 1, 0, 0]
    torch.testing.assert_close(source.weights(0, shape=(LATENT, LATENT), flip=True), plain.flip(1))


@pytest.mark.proves("F56/masks")
def test_weights_of_a_crop_are_those_of_the_cut_mask(tmp_path: Path) -> None:
    crops = Crops(count=3, smallest=0.4, interpolation="lanczos", seed=5)
    soft = Crops(count=3, smallest=0.4, interpolation="bilinear", seed=5)
    source = masks_of(pictures_with(tmp_path, None, LEFT), crops=crops)
    assert source is not None
    for crop in range(3):
        cut = soft.cut(Image.fromarray(LEFT), picture=1, crop=crop)
        blocks = np.asarray(cut, dtype=np.float64).reshape(LATENT, 8, LATENT, 8).mean((1, 3)) / 255
        found = source.weights(1, shape=(LATENT, LATENT), crop=crop)
        np.testing.assert_allclose(found.numpy(), blocks, atol=1e-6)


def test_weights_fit_latents_of_another_shape(tmp_path: Path) -> None:
    wide = np.zeros((32, 48), dtype=np.uint8)
    wide[:, :24] = 255
    source = MaskSource(pictures_with(tmp_path, wide))
    assert source.weights(0, shape=(4, 6))[0].tolist() == [1, 1, 1, 0, 0, 0]
    assert source.weights(0, shape=(2, 3))[0].tolist() == [1, 0.5, 0]


def test_masks_of_pictures_without_any_are_none(tmp_path: Path) -> None:
    assert masks_of(pictures_with(tmp_path, None, None)) is None
    mixed = masks_of(pictures_with(tmp_path, LEFT, None))
    assert mixed is not None
    assert mixed.weights(1, shape=(2, 2)).tolist() == [[1, 1], [1, 1]]


def test_stacked_weights_are_ones_for_samples_without_masks() -> None:
    like = [torch.zeros(4, 2, 2)] * 2
    assert stacked_weights([None, None], like_BCHW=like) is None
    found = stacked_weights([None, torch.zeros(2, 2)], like_BCHW=like)
    assert found is not None
    assert found.tolist() == [[[1, 1], [1, 1]], [[0, 0], [0, 0]]]


def objectives() -> list[Any]:
    schedule = ScheduleObjective(
        torch.linspace(0.99, 0.01, 10), prediction_type="epsilon", min_snr_gamma=5.0
    )
    return [schedule, FlowObjective(), FlowObjective(huber_delta=0.1)]


def drawn(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, 3, LATENT, LATENT)
    return {
        "latents_BCHW": torch.randn(shape, generator=generator),
        "noise_BCHW": torch.randn(shape, generator=generator),
        "timesteps_B": torch.tensor([2, 7]),
    }


@pytest.mark.proves("F56/masks")
@pytest.mark.parametrize("number", range(3))
def test_losses_give_masked_latents_no_gradient(number: int) -> None:
    weights = torch.ones(2, LATENT, LATENT)
    weights[0, :, 2:] = 0
    prediction = torch.zeros(2, 3, LATENT, LATENT, requires_grad=True)
    losses = objectives()[number].losses(prediction, weights_BHW=weights, **drawn(1))
    (gradient,) = torch.autograd.grad(losses.sum(), prediction)
    assert gradient[0, :, :, 2:].abs().max() == 0
    assert gradient[0, :, :, :2].abs().min() > 0
    assert gradient[1].abs().min() > 0


@pytest.mark.parametrize("number", range(3))
def test_losses_are_the_weighted_mean_of_what_is_learnt(number: int) -> None:
    objective, draws = objectives()[number], drawn(2)
    prediction = torch.zeros(2, 3, LATENT, LATENT)
    plain = objective.losses(prediction, **draws)
    ones = objective.losses(prediction, weights_BHW=torch.ones(2, LATENT, LATENT), **draws)
    torch.testing.assert_close(ones, plain)
    left = torch.zeros(2, LATENT, LATENT)
    left[:, :, :2] = 0.3
    cut = {name: value[..., :2] if value.ndim == 4 else value for name, value in draws.items()}
    torch.testing.assert_close(
        objective.losses(prediction, weights_BHW=left, **draws),
        objective.losses(prediction[..., :2], **cut),
    )


def test_losses_of_a_sample_that_is_masked_all_over_are_zero_and_finite() -> None:
    weights = torch.zeros(2, LATENT, LATENT)
    prediction = torch.zeros(2, 3, LATENT, LATENT, requires_grad=True)
    losses = FlowObjective().losses(prediction, weights_BHW=weights, **drawn(3))
    (gradient,) = torch.autograd.grad(losses.sum(), prediction)
    assert losses.tolist() == [0, 0]
    assert gradient.abs().max() == 0
