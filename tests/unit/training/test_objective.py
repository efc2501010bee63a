"""The loss and its gradient against the formulas, written out in float64."""

import math

import pytest
import torch

from boothline.diffusion import counters
from boothline.training.objective import (
    FlowObjective,
    FlowTimesteps,
    ScheduleObjective,
    UniformTimesteps,
    total_loss,
)

ALPHA_BAR = torch.tensor([0.999, 0.9, 0.5, 0.1, 0.005])
TIMESTEPS = torch.tensor([0, 2, 4, 1, 3])
NUM_INSTANCE, HALF_SIZE = 3, 4


def reference(theta, latents, noise, prediction_type, gamma, delta, prior_weight):
    """Return the loss of the linear model theta * z_t and its derivative, sample by sample."""
    total = torch.zeros((), dtype=torch.float64)
    theta = theta.double().requires_grad_()
    for i, t in enumerate(TIMESTEPS.tolist()):
        a2 = ALPHA_BAR[t].double()
        a, s, snr = a2**0.5, (1 - a2) ** 0.5, a2 / (1 - a2)
        z, e = latents[i].double(), noise[i].double()
        target = {"epsilon": e, "sample": z, "v_prediction": a * e - s * z}[prediction_type]
        weight = 1.0
        if gamma is not None:
            divisor = {"epsilon": snr, "sample": 1.0, "v_prediction": snr + 1}[prediction_type]
            weight = min(snr, gamma) / divisor
        difference = theta * (a * z + s * e) - target
        error = difference**2
        if delta is not None:
            beyond = difference.abs() > delta
            error = torch.where(beyond, 2 * delta * difference.abs() - delta**2, error)
        half = 1.0 if i < NUM_INSTANCE else prior_weight
        total = total + half * weight * error.mean() / HALF_SIZE
    (gradient,) = torch.autograd.grad(total, theta)
    return total.detach(), gradient


@pytest.mark.proves("F02/loss", "F21/targets")
@pytest.mark.parametrize("prior_weight", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("delta", [None, 0.7])
@pytest.mark.parametrize("gamma", [None, 5.0])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_loss_and_gradient_equal_the_float64_formulas(
    prediction_type, gamma, delta, prior_weight
) -> None:
    torch.manual_seed(0)
    latents, noise = torch.randn(5, 2, 3, 3), torch.randn(5, 2, 3, 3)
    theta = torch.randn(2, 3, 3, requires_grad=True)
    objective = ScheduleObjective(
        ALPHA_BAR, prediction_type=prediction_type, min_snr_gamma=gamma, huber_delta=delta
    )
    noisy = objective.noisy(latents, noise, TIMESTEPS)
    losses = objective.losses(
        theta * noisy, latents_BCHW=latents, noise_BCHW=noise, timesteps_B=TIMESTEPS
    )
    loss, sums = total_loss(
        losses, num_instance=NUM_INSTANCE, half_size=HALF_SIZE, prior_weight=prior_weight
    )
    (gradient,) = torch.autograd.grad(loss, theta)
    expected_loss, expected_gradient = reference(
        theta.detach(), latents, noise, prediction_type, gamma, delta, prior_weight
    )
    assert torch.allclose(loss.double(), expected_loss, rtol=1e-5)
    assert torch.allclose(gradient.double(), expected_gradient, rtol=1e-4, atol=1e-6)
    assert torch.allclose((sums[0] + prior_weight * sums[1]) / HALF_SIZE, expected_loss, rtol=1e-5)


def test_min_snr_at_zero_terminal_snr_stays_finite() -> None:
    alpha_bar = torch.tensor([0.5, 0.0])
    for prediction_type in ("epsilon", "v_prediction", "sample"):
        objective = ScheduleObjective(alpha_bar, prediction_type=prediction_type, min_snr_gamma=5.0)
        picture = torch.ones(2, 1, 2, 2)
        losses = objective.losses(
            2 * picture,
            latents_BCHW=picture,
            noise_BCHW=picture,
            timesteps_B=torch.tensor([0, 1]),
        )
        assert losses.isfinite().all()


def test_total_loss_scale_multiplies_the_loss_only() -> None:
    losses = torch.tensor([1.0, 2.0, 4.0, 8.0])
    options = {"num_instance": 2, "half_size": 2, "prior_weight": 0.5}
    plain, sums = total_loss(losses, **options)
    scaled, same_sums = total_loss(losses, **options, scale=3)
    assert plain == 1.5 + 0.5 * 6
    assert scaled == 3 * plain
    assert sums.tolist() == same_sums.tolist() == [3, 12]


def test_objective_counts_the_timesteps_of_its_schedule() -> None:
    assert ScheduleObjective(ALPHA_BAR, prediction_type="epsilon").num_timesteps == len(ALPHA_BAR)


@pytest.mark.parametrize(("fraction", "timestep"), [(0.0, 0.0), (0.25, 250.0), (0.9996, 999.6)])
def test_timestep_of_flow_matching_is_a_fraction_of_a_thousand(
    fraction: float, timestep: float
) -> None:
    assert FlowObjective().timestep_at(fraction) == pytest.approx(timestep)


def test_objective_moves_its_whole_schedule_to_a_device() -> None:
    objective = ScheduleObjective(ALPHA_BAR, prediction_type="v_prediction", min_snr_gamma=5.0)
    objective.to(torch.device("meta"))
    picture, timesteps = torch.ones(2, 1, 2, 2, device="meta"), torch.zeros(2, dtype=torch.int64)
    timesteps = timesteps.to("meta")
    noisy = objective.noisy(picture, picture, timesteps)
    losses = objective.losses(
        noisy, latents_BCHW=picture, noise_BCHW=picture, timesteps_B=timesteps
    )
    assert noisy.device.type == losses.device.type == "meta"


def test_total_loss_alone_is_differentiated_and_its_sums_are_exact() -> None:
    losses = torch.tensor([1.0, 2.0, 4.0], requires_grad=True)
    loss, sums = total_loss(losses, num_instance=2, half_size=4, prior_weight=0.5)
    loss.backward()
    assert losses.grad is not None
    assert losses.grad.tolist() == [0.25, 0.25, 0.125]
    assert not sums.requires_grad
    assert sums.dtype == torch.float64


def test_losses_of_a_half_precision_prediction_are_float32() -> None:
    objective = ScheduleObjective(ALPHA_BAR, prediction_type="epsilon")
    picture = torch.full((1, 1, 2, 2), 0.1)
    losses = objective.losses(
        torch.zeros(1, 1, 2, 2, dtype=torch.bfloat16), latents_BCHW=picture,
        noise_BCHW=picture, timesteps_B=torch.tensor([1]),
    )  # fmt: skip
    assert losses.dtype == torch.float32
    assert losses.item() == pytest.approx(0.01, rel=1e-6)


def test_min_snr_at_its_bounds_equals_the_float64_formula() -> None:
    """SNR 9, 1 and 1/9: above gamma, at it, and below."""
    alpha_bar = torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)
    weights = {
        "epsilon": [1 / 9, 1, 1],
        "sample": [1, 1, 1 / 9],
        "v_prediction": [0.1, 0.5, 0.1],
    }
    for kind, wanted in weights.items():
        objective = ScheduleObjective(alpha_bar, prediction_type=kind, min_snr_gamma=1.0)  # type: ignore[arg-type]
        losses = objective.losses(
            torch.zeros(3, 1, 1, 1), latents_BCHW=torch.ones(3, 1, 1, 1),
            noise_BCHW=torch.ones(3, 1, 1, 1), timesteps_B=torch.arange(3),
        )  # fmt: skip
        signal, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        error = (signal - sigma) ** 2 if kind == "v_prediction" else torch.ones(3)
        expected = torch.tensor(wanted, dtype=torch.float64) * error
        assert torch.allclose(losses.double(), expected, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize(("count", "found"), [(1, {0}), (2, {0, 1}), (3, {0, 1, 2})])
def test_timesteps_of_a_schedule_are_all_of_its_numbers(count: int, found: set[int]) -> None:
    timesteps = UniformTimesteps(count=count)
    drawn = [timesteps.draw(seed=1, stream="a", index=(step, 0)) for step in range(60)]
    assert set(drawn) == found


def test_timesteps_of_flow_matching_follow_their_formulas() -> None:
    """Each density in float64, from the same draws."""
    place = {"seed": 3, "stream": "a", "index": (7, 1)}
    uniform = float(counters.uniform((), **place))
    level = 1 / (1 + math.exp(-float(counters.normal((), **place))))
    wanted = {
        FlowTimesteps(density="uniform", shift=3.0): uniform,
        FlowTimesteps(density="logit_normal", shift=3.0): level,
        FlowTimesteps(density="shifted", shift=3.0): 3 * level / (1 + 2 * level),
        FlowTimesteps(density="shifted"): level,
    }
    for timesteps, share in wanted.items():
        assert timesteps.draw(**place) == pytest.approx(1000 * share, rel=1e-12)


@pytest.mark.proves("F56/masks")
@pytest.mark.parametrize("left", [1.0, 1 / 255])
def test_losses_where_little_is_learnt_are_the_mean_of_that_little(left: float) -> None:
    weights = torch.zeros(1, 2, 2)
    weights[0, 0, 0] = left
    losses = FlowObjective().losses(
        torch.full((1, 3, 2, 2), 2.0),
        latents_BCHW=torch.zeros(1, 3, 2, 2),
        noise_BCHW=torch.zeros(1, 3, 2, 2),
        timesteps_B=torch.tensor([500.0]),
        weights_BHW=weights,
    )
    assert losses.tolist() == pytest.approx([4.0])
