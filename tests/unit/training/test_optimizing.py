"""Learning rates, parameter groups and the weight average."""

import math
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from boothline.config.training import TrainingConfig
from boothline.errors import ConfigError
from boothline.training.denoiser import Denoiser
from boothline.training.optimizing import (
    WeightAverage,
    build_optimizer,
    rate_factor,
    set_learning_rate,
)


@pytest.mark.proves("F20/schedules")
def test_rate_factor_warms_up_linearly_then_stays() -> None:
    config = TrainingConfig(num_steps=8, warmup_steps=3)
    assert [rate_factor(step, config) for step in range(5)] == [0.25, 0.5, 0.75, 1, 1]


@pytest.mark.proves("F20/schedules")
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
    optimizer = build_optimizer(
        Denoiser(nn.Linear(2, 2), {"text_encoder": nn.Linear(2, 2)}), config
    )
    assert set_learning_rate(optimizer, step=0, config=config) == pytest.approx(5e-3)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([5e-3, 5e-4])


def test_build_optimizer_leaves_frozen_parameters_out() -> None:
    network = nn.Linear(2, 2)
    network.bias.requires_grad_(False)
    (group,) = build_optimizer(Denoiser(network, None), TrainingConfig()).param_groups
    assert group["names"] == ["unet.weight"]
    assert group["params"] == [network.weight]


@pytest.mark.proves("F20/scaling")
def test_set_learning_rate_scaled_is_multiplied_by_the_global_batch() -> None:
    config = TrainingConfig(
        learning_rate=1e-3, text_encoder_learning_rate=1e-4, batch_size=8, warmup_steps=0,
        accumulation=2, scale_learning_rate=True,
    )  # fmt: skip
    optimizer = build_optimizer(
        Denoiser(nn.Linear(2, 2), {"text_encoder": nn.Linear(2, 2)}), config
    )
    assert set_learning_rate(optimizer, step=0, config=config) == pytest.approx(8e-3)
    assert optimizer.param_groups[1]["lr"] == pytest.approx(8e-4)


PACKAGES = {"lion": "lion_pytorch", "prodigy": "prodigyopt"}


@pytest.mark.proves("F23/learning")
@pytest.mark.parametrize("name", ["adamw", "adafactor", "prodigy", "lion"])
def test_build_optimizer_every_kind_learns_a_line(name) -> None:
    pytest.importorskip(PACKAGES.get(name, "torch"), reason="needs the extra optimizers")
    torch.manual_seed(0)
    network = nn.Linear(2, 1)
    rates = {"prodigy": 1.0, "lion": 0.02}
    config = TrainingConfig(optimizer=name, learning_rate=rates.get(name, 0.1), weight_decay=0.0)
    optimizer = build_optimizer(Denoiser(network, None), config)
    inputs = torch.randn(32, 2)
    wanted = inputs @ torch.tensor([[1.0], [-2.0]]) + 0.5

    def loss() -> torch.Tensor:
        return (network(inputs) - wanted).square().mean()

    first = loss().item()
    for _ in range(60):
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss().item() < 0.5 * first


def test_build_optimizer_eight_bits_without_cuda_says_what_to_use(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"adamw8bit needs a CUDA device.*adafactor"):
        build_optimizer(Denoiser(nn.Linear(2, 2), None), TrainingConfig(optimizer="adamw8bit"))


def test_build_optimizer_without_its_library_names_the_extra(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "lion_pytorch", None)
    with pytest.raises(ConfigError, match=r"boothline\[optimizers\]"):
        build_optimizer(Denoiser(nn.Linear(2, 2), None), TrainingConfig(optimizer="lion"))


@pytest.mark.parametrize(
    "settings",
    [{}, {"learning_rate": 1.0, "scale_learning_rate": True},
     {"learning_rate": 1.0, "text_encoder_learning_rate": 0.5}],
)  # fmt: skip
def test_prodigy_with_a_rate_of_its_own_is_refused(settings) -> None:
    with pytest.raises(ValidationError, match="prodigy"):
        TrainingConfig(optimizer="prodigy", **settings)


@pytest.mark.proves("F15/average")
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


def test_weight_average_takes_stored_averages_over() -> None:
    parameter = nn.Parameter(torch.tensor([1.0]))
    average = WeightAverage({"p": parameter}, decay=0.5)
    kept = average.averages["p"]
    average.restore({"p": torch.tensor([4.0]), "q": torch.tensor([5.0])})
    assert kept.item() == 4.0
    assert parameter.item() == 1.0
    average.update(99)
    assert kept.item() == 2.5


def test_weight_average_starts_as_a_copy_of_the_weights() -> None:
    parameter = nn.Parameter(torch.tensor([1.0]))
    average = WeightAverage({"p": parameter}, decay=0.5)
    with torch.no_grad():
        parameter.fill_(3.0)
    assert average.averages["p"].item() == 1.0
    assert not average.averages["p"].requires_grad


def test_weight_average_is_put_back_when_its_use_fails() -> None:
    parameter = nn.Parameter(torch.tensor([1.0]))
    average = WeightAverage({"p": parameter}, decay=0.5)
    with torch.no_grad():
        parameter.fill_(2.0)
    with pytest.raises(ZeroDivisionError), average.applied():
        raise ZeroDivisionError
    assert parameter.item() == 2.0
    assert average.averages["p"].item() == 1.0


def test_adamw_takes_the_steps_of_its_paper() -> None:
    """Loshchilov and Hutter, 2019, algorithm 2, with epsilon 1e-8."""
    network = nn.Linear(1, 1, bias=False)
    start = float(network.weight.detach())
    config = TrainingConfig(beta1=0.6, beta2=0.7, weight_decay=0.2, learning_rate=0.1)
    optimizer = build_optimizer(Denoiser(network, None), config)
    weight, m, v = start, 0.0, 0.0
    for number, gradient in enumerate([3e-8, -1e-8, 2.0], start=1):
        network.weight.grad = torch.tensor([[gradient]])
        optimizer.step()
        m, v = 0.6 * m + 0.4 * gradient, 0.7 * v + 0.3 * gradient**2
        step = (m / (1 - 0.6**number)) / (math.sqrt(v / (1 - 0.7**number)) + 1e-8)
        weight -= 0.1 * (step + 0.2 * weight)
        assert float(network.weight.detach()) == pytest.approx(weight, rel=1e-5)


SETTINGS = {"betas": (0.6, 0.7), "weight_decay": 0.2}


@pytest.mark.parametrize("name", ["adamw", "lion", "prodigy", "adafactor"])
def test_build_optimizer_passes_decay_and_betas_on(name, capsys) -> None:
    pytest.importorskip(PACKAGES.get(name, "torch"), reason="needs the extra optimizers")
    config = TrainingConfig(
        optimizer=name, beta1=0.6, beta2=0.7, weight_decay=0.2,
        learning_rate=1.0 if name == "prodigy" else 0.1,
    )  # fmt: skip
    optimizer = build_optimizer(Denoiser(nn.Linear(1, 1), None), config)
    assert type(optimizer).__name__.lower() == name
    (group,) = optimizer.param_groups
    wanted = {key: SETTINGS[key] for key in SETTINGS if name != "adafactor" or key != "betas"}
    assert {key: group[key] for key in wanted} == wanted
    assert group["lr"] == group["peak_lr"] == config.learning_rate
    assert bool(group.get("fused")) == (name == "adamw")
    assert capsys.readouterr().out == ""


def test_build_optimizer_eight_bits_passes_decay_and_betas_on(monkeypatch) -> None:
    made: list[tuple[Any, dict[str, Any]]] = []

    def eight_bits(groups: Any, **settings: Any) -> str:
        made.append((groups, settings))
        return "optimizer"

    library = SimpleNamespace(optim=SimpleNamespace(AdamW8bit=eight_bits))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "bitsandbytes", library)
    config = TrainingConfig(optimizer="adamw8bit", beta1=0.6, beta2=0.7, weight_decay=0.2)
    built: Any = build_optimizer(Denoiser(nn.Linear(1, 1), None), config)
    assert built == "optimizer"
    ((groups, settings),) = made
    assert settings == SETTINGS
    assert [group["names"] for group in groups] == [["unet.weight", "unet.bias"]]


def test_build_optimizer_gives_both_networks_the_one_rate() -> None:
    config = TrainingConfig(learning_rate=2e-3)
    optimizer = build_optimizer(
        Denoiser(nn.Linear(1, 1), {"text_encoder": nn.Linear(1, 1)}), config
    )
    assert [group["peak_lr"] for group in optimizer.param_groups] == [2e-3, 2e-3]
    assert optimizer.param_groups[1]["names"] == ["text_encoder.weight", "text_encoder.bias"]


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        ("constant", [1 / 3, 2 / 3, 1, 1, 1, 1, 1]),
        ("linear", [1 / 3, 2 / 3, 1, 3 / 4, 1 / 2, 1 / 4, 0]),
        ("polynomial", [1 / 3, 2 / 3, 1, 9 / 16, 1 / 4, 1 / 16, 0]),
        ("cosine", [1 / 3, 2 / 3, 1, 0.5 + 0.125**0.5, 0.5, 0.5 - 0.125**0.5, 0]),
    ],
)
def test_rate_factor_after_the_warm_up_stretches_over_the_rest(schedule, wanted) -> None:
    config = TrainingConfig(num_steps=6, warmup_steps=2, schedule=schedule)
    assert [rate_factor(step, config) for step in range(7)] == pytest.approx(wanted, abs=1e-12)
    # A resumed training that was shortened stays at the end of its schedule.
    assert rate_factor(9, config) == pytest.approx(wanted[-1], abs=1e-12)


def test_rate_factor_with_a_warm_up_as_long_as_the_training_ends_at_the_peak() -> None:
    config = TrainingConfig(num_steps=2, warmup_steps=2, schedule="linear")
    assert [rate_factor(step, config) for step in range(4)] == pytest.approx([1 / 3, 2 / 3, 1, 0])


def test_set_learning_rate_returns_the_rate_of_the_unet() -> None:
    config = TrainingConfig(learning_rate=0.5, text_encoder_learning_rate=0.25, warmup_steps=0)
    optimizer = build_optimizer(
        Denoiser(nn.Linear(1, 1), {"text_encoder": nn.Linear(1, 1)}), config
    )
    rate = set_learning_rate(optimizer, step=3, config=config)
    assert (rate, type(rate)) == (0.5, float)
