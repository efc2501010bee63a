import numpy as np
import pytest

from boothline.evaluation import bootstrap as bootstrap_module
from boothline.evaluation.bootstrap import Bootstrap


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
