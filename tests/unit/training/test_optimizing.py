"""Learning rates, parameter groups and the weight average."""

import pytest
import torch
from torch import nn

from boothline.config.training import TrainingConfig
from boothline.training.averaging import WeightAverage
from boothline.training.denoiser import Denoiser
from boothline.training.optimizing import build_optimizer, rate_factor, set_learning_rate


def test_rate_factor_warms_up_linearly_then_stays() -> None:
    config = TrainingConfig(num_steps=8, warmup_steps=3)
    assert [rate_factor(step, config) for step in range(5)] == [0.25, 0.5, 0.75, 1, 1]


@pytest.mark.parametrize(
    ("schedule", "middle"), [("cosine", 0.5), ("linear", 0.5), ("polynomial", 0.25)]
)
def test_rate_factor_falls_from_one_to_zero(schedule, middle) -> None:
    config = TrainingConfig(num_steps=10, warmup_steps=0, schedule=schedule)
    factors = [rate_factor(step, config) for step in range(11)]
    assert factors[0] == 1
    assert factors[5] == pytest.approx(middle)
    assert factors[10] == pytest.approx(0)
    assert factors == sorted(factors, reverse=True)


def test_set_learning_rate_keeps_the_ratio_of_the_groups() -> None:
    config = TrainingConfig(
        learning_rate=1e-2, text_encoder_learning_rate=1e-3, warmup_steps=1, num_steps=4
    )
    optimizer = build_optimizer(Denoiser(nn.Linear(2, 2), nn.Linear(2, 2)), config)
    assert set_learning_rate(optimizer, step=0, config=config) == pytest.approx(5e-3)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([5e-3, 5e-4])


def test_build_optimizer_leaves_frozen_parameters_out() -> None:
    network = nn.Linear(2, 2)
    network.bias.requires_grad_(False)
    (group,) = build_optimizer(Denoiser(network, None), TrainingConfig()).param_groups
    assert group["names"] == ["unet.weight"]
    assert group["params"] == [network.weight]


def test_weight_average_follows_the_formula() -> None:
    parameter = nn.Parameter(torch.tensor([1.0]))
    average = WeightAverage({"p": parameter}, decay=0.5)
    expected = 1.0
    for step, value in enumerate([3.0, 5.0, 7.0]):
        with torch.no_grad():
            parameter.fill_(value)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert average.averages["p"].item() == pytest.approx(expected)


def test_weight_average_applied_puts_both_back_afterwards() -> None:
    parameter = nn.Parameter(torch.tensor([1.0]))
    average = WeightAverage({"p": parameter}, decay=0.5)
    with torch.no_grad():
        parameter.fill_(2.0)
    with average.applied():
        assert parameter.item() == 1.0
    assert parameter.item() == 2.0
    assert average.averages["p"].item() == 1.0
