from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from pydantic import ValidationError

from boothline.evaluation import metrics as bootstrap_module
from boothline.evaluation.metrics import Bootstrap
from boothline.measures import Score


def _values(seed: int, *, prompts: int = 20, images: int = 4) -> np.ndarray:
    """Scores with mean 0: an effect of the prompt and one of the picture."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(prompts, 1)) * 0.5 + rng.normal(size=(prompts, images))


def test_bootstrap_same_seed_gives_same_interval_and_other_seed_another():
    values = _values(0)
    first, again = (Bootstrap(num_resamples=200, seed=1).estimate(values) for _ in range(2))
    assert first == again
    assert Bootstrap(num_resamples=200, seed=2).estimate(values).low != first.low


def test_bootstrap_interval_covers_the_truth_about_as_often_as_it_says():
    estimates = [Bootstrap(num_resamples=400).estimate(_values(seed)) for seed in range(200)]
    covered = np.mean([estimate.low <= 0 <= estimate.high for estimate in estimates])
    assert 0.88 <= covered <= 0.99


def test_bootstrap_ignoring_that_pictures_of_a_prompt_are_alike_would_cover_less():
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(size=(20, 1)), 8, axis=1)
    by_prompt = Bootstrap(num_resamples=400).estimate(values)
    as_if_independent = Bootstrap(num_resamples=400).estimate(values.reshape(-1))
    assert by_prompt.high - by_prompt.low > 2 * (as_if_independent.high - as_if_independent.low)


@pytest.mark.proves("F45/paired")
def test_bootstrap_of_paired_gain_is_tighter_than_the_scores():
    ours = _values(0)
    theirs = ours - 0.1 + np.random.default_rng(1).normal(size=ours.shape) * 0.01
    gain = Bootstrap(num_resamples=400).estimate(ours - theirs)
    alone = Bootstrap(num_resamples=400).estimate(ours)
    assert gain.low > 0.09
    assert gain.high - gain.low < 0.1 * (alone.high - alone.low)


def test_bootstrap_same_values_give_an_interval_without_width():
    estimate = Bootstrap(num_resamples=100).estimate(np.full((3, 4), 0.5))
    assert (estimate.mean, estimate.low, estimate.high) == (0.5, 0.5, 0.5)


def test_bootstrap_one_prompt_still_varies_by_picture():
    estimate = Bootstrap(num_resamples=400).estimate(np.array([[0.0, 1.0, 2.0, 3.0]]))
    assert estimate.low < estimate.mean == 1.5 < estimate.high


def test_bootstrap_result_does_not_depend_on_portions(monkeypatch):
    values = _values(0)
    rows = Bootstrap(num_resamples=100)
    whole = rows.estimate(values)
    monkeypatch.setattr(bootstrap_module, "_MAX_DRAWS_AT_ONCE", 10)
    assert rows.estimate(values).mean == whole.mean
    assert rows.estimate(values).low == pytest.approx(whole.low, abs=0.2)


def test_bootstrap_no_values_is_refused():
    with pytest.raises(ValueError, match="no scores"):
        Bootstrap(num_resamples=100).estimate(np.zeros((0, 4)))


@pytest.mark.parametrize("shape", [(100, 1), (1, 100), (100,)], ids=["prompts", "pictures", "flat"])
def test_bootstrap_of_zeros_and_ones_has_the_bounds_of_the_binomial_distribution(shape):
    # The mean of a resample is Binomial(100, 1/2) / 100, whose 2.5 % and 97.5 % quantiles are 40
    # and 60: P(X <= 39) = 0.0176, P(X <= 40) = 0.0284. A level of 90 % would give 42 and 58.
    estimate = Bootstrap(num_resamples=20_000).estimate((np.arange(100) % 2.0).reshape(shape))
    assert (estimate.mean, estimate.low, estimate.high) == (0.5, 0.4, 0.6)


def test_bootstrap_of_equal_pictures_has_the_bounds_of_its_prompts():
    values = np.repeat(np.arange(100)[:, None] % 2.0, 3, axis=1)
    estimate = Bootstrap(num_resamples=20_000).estimate(values)
    assert (estimate.low, estimate.high) == pytest.approx((0.4, 0.6))


def test_bootstrap_width_is_that_of_both_levels_of_resampling():
    # Variance of a resample's mean, for means m_p and variances v_p of P prompts of S pictures:
    # Var(m_p) / P + Mean(v_p) / (P x S), both with the number of values as divisor.
    values = _values(3)
    variance = values.mean(axis=1).var() / 20 + values.var(axis=1).mean() / (20 * 4)
    estimate = Bootstrap(num_resamples=20_000).estimate(values)
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * variance**0.5, rel=0.03)


def test_bootstrap_draws_no_more_at_once_than_fit(monkeypatch):
    table = np.zeros((5, 2))
    monkeypatch.setattr(bootstrap_module, "_MAX_DRAWS_AT_ONCE", 29)
    counts = [len(prompts) for prompts, _ in Bootstrap(num_resamples=5)._draws(table)]
    assert counts == [2, 2, 1]
    monkeypatch.setattr(bootstrap_module, "_MAX_DRAWS_AT_ONCE", 3)
    counts = [len(prompts) for prompts, _ in Bootstrap(num_resamples=3)._draws(table)]
    assert counts == [1, 1, 1]


@pytest.mark.parametrize(
    ("num_scores", "num_at_once"),
    [(2_000_000, 2), (97_561, 40)],  # 40 x 97,561 = 3,902,440; with one more 4,000,001
)
def test_bootstrap_draws_four_million_numbers_at_once_at_most(num_scores, num_at_once):
    draws = Bootstrap(num_resamples=num_at_once + 1)._draws(np.zeros((num_scores, 1)))
    assert len(next(draws)[0]) == num_at_once


def test_bootstrap_one_score_is_its_own_interval():
    estimate = Bootstrap(num_resamples=10).estimate(np.array([0.25]))
    assert (estimate.mean, estimate.low, estimate.high) == (0.25, 0.25, 0.25)


def test_bootstrap_without_a_seed_has_seed_zero():
    values = _values(0)
    assert Bootstrap(num_resamples=50).estimate(values) == Bootstrap(
        num_resamples=50, seed=0
    ).estimate(values)


def test_score_is_written_with_six_decimals():
    score = Score(mean=2 / 3, low=-1 / 3, high=1.0)
    assert score.rounded().model_dump() == {"mean": 0.666667, "low": -0.333333, "high": 1.0}


def test_score_and_bootstrap_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        Score(mean=0, low=0, high=0).low = 1
    with pytest.raises(FrozenInstanceError):
        Bootstrap(num_resamples=1).seed = 1


def test_score_and_bootstrap_name_their_numbers():
    with pytest.raises(TypeError, match="positional"):
        Score(0.0, 0.0, 0.0)
    with pytest.raises(TypeError, match="positional"):
        Bootstrap(100, 0)
