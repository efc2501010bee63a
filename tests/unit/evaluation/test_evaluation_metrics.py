import numpy as np
import pytest

from boothline.evaluation import metrics

P, S, M, D = 3, 4, 5, 7


@pytest.fixture
def features() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"generated": (P * S, D), "real": (M, D), "texts": (P * S, D)}
    return {name: metrics.normalised(rng.normal(size=shape)) for name, shape in shapes.items()}


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


@pytest.mark.proves("F18", "F40/protocol")
def test_subject_fidelity_equals_mean_of_all_pairs(features):
    pairs = [_cosine(g, r) for g in features["generated"] for r in features["real"]]
    measured = metrics.subject_fidelity(features["generated"], features["real"])
    assert measured.shape == (P * S,)
    assert measured.mean() == pytest.approx(sum(pairs) / len(pairs), abs=1e-6)
    assert measured[2] == pytest.approx(np.mean(pairs[2 * M : 3 * M]), abs=1e-6)


@pytest.mark.proves("F18")
def test_prompt_fidelity_equals_cosine_with_own_prompt(features):
    pairs = [_cosine(g, t) for g, t in zip(features["generated"], features["texts"], strict=True)]
    measured = metrics.prompt_fidelity(features["generated"], features["texts"])
    assert measured == pytest.approx(np.array(pairs), abs=1e-6)


@pytest.mark.proves("F40/protocol")
def test_diversity_equals_mean_distance_of_pairs_within_a_prompt(features):
    table = features["generated"].reshape(P, S, D)
    expected = [
        np.mean([1 - _cosine(row[i], row[j]) for i in range(S) for j in range(i + 1, S)])
        for row in table
    ]
    assert metrics.diversity(table) == pytest.approx(np.array(expected), abs=1e-6)


def test_real_fidelity_leaves_a_picture_and_itself_out(features):
    real = features["real"]
    expected = [
        np.mean([_cosine(a, b) for j, b in enumerate(real) if j != i]) for i, a in enumerate(real)
    ]
    assert metrics.real_fidelity(real) == pytest.approx(np.array(expected), abs=1e-6)


def test_metrics_of_identical_pictures_are_one_and_diversity_zero():
    same = metrics.normalised(np.tile([1.0, 2.0, 3.0], (4, 1)))
    assert metrics.subject_fidelity(same, same) == pytest.approx(np.ones(4), abs=1e-6)
    assert metrics.prompt_fidelity(same, same) == pytest.approx(np.ones(4), abs=1e-6)
    assert metrics.real_fidelity(same) == pytest.approx(np.ones(4), abs=1e-6)
    assert metrics.diversity(same.reshape(1, 4, 3)) == pytest.approx(np.zeros(1), abs=1e-6)


def test_overall_score_weighs_subject_against_prompt():
    score = metrics.overall_score(np.array([1.0, 0.0]), np.array([0.0, 1.0]), subject_weight=0.75)
    assert score.tolist() == [0.75, 0.25]


@pytest.mark.parametrize("row", [[0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_normalised_row_without_direction_is_refused(row):
    with pytest.raises(ValueError, match="zero or not finite"):
        metrics.normalised(np.array([[1.0, 1.0], row]))


def test_diversity_and_real_fidelity_of_one_picture_are_refused():
    one = np.ones((1, 1, 3), dtype=np.float32)
    with pytest.raises(ValueError, match="at least two"):
        metrics.diversity(one)
    with pytest.raises(ValueError, match="at least two"):
        metrics.real_fidelity(one[0])


def test_nearest_cosines_name_the_real_picture_most_alike(features):
    cosines, nearest = metrics.nearest_cosines(features["generated"], features["real"])
    table = np.array([[_cosine(g, r) for r in features["real"]] for g in features["generated"]])
    assert cosines == pytest.approx(table.max(axis=1), abs=1e-6)
    assert nearest.tolist() == table.argmax(axis=1).tolist()


def test_own_nearest_cosine_is_that_of_the_two_most_alike(features):
    real = features["real"]
    pairs = [_cosine(real[i], real[j]) for i in range(M) for j in range(i)]
    assert metrics.own_nearest_cosine(real) == pytest.approx(max(pairs), abs=1e-6)


@pytest.mark.proves("F40/protocol")
def test_preservation_of_class_pictures_equals_their_mean_likeness_to_the_subject(features):
    class_pictures, real = features["texts"], features["real"]
    pairs = [_cosine(c, r) for c in class_pictures for r in real]
    pres = metrics.subject_fidelity(class_pictures, real).mean()
    assert pres == pytest.approx(sum(pairs) / len(pairs), abs=1e-6)


def test_metrics_of_two_pictures_at_sixty_degrees():
    # cos 60 degrees = 1/2, by hand.
    pair = np.array([[1.0, 0.0, 0.0], [0.5, 0.75**0.5, 0.0]])
    assert metrics.diversity(pair[None]) == pytest.approx([0.5])
    assert metrics.real_fidelity(pair) == pytest.approx([0.5, 0.5])
    assert metrics.own_nearest_cosine(pair) == pytest.approx(0.5)
    assert metrics.subject_fidelity(pair, pair) == pytest.approx([0.75, 0.75])
    cosines, nearest = metrics.nearest_cosines(pair[:1], pair[::-1])
    assert (cosines.tolist(), nearest.tolist()) == ([1.0], [1])


def test_metrics_of_opposite_pictures_reach_their_ends():
    pair = np.array([[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]])
    assert metrics.diversity(pair[None]).tolist() == [2.0]
    assert metrics.real_fidelity(pair).tolist() == [-1.0, -1.0]
    assert metrics.own_nearest_cosine(pair) == -1.0
    assert metrics.prompt_fidelity(pair, pair[::-1]).tolist() == [-1.0, -1.0]


def test_own_nearest_cosine_of_one_picture_is_refused():
    with pytest.raises(ValueError, match="at least two"):
        metrics.own_nearest_cosine(np.ones((1, 3)))


def test_metrics_of_half_precision_features_are_summed_in_float64():
    # 1 + 2^-11 is not a float16: summed in float16 the cosine would be 1.
    features = np.array([[1.0, 2.0**-6, 2.0**-6]], dtype=np.float16)
    assert metrics.subject_fidelity(features, features).tolist() == [1 + 2.0**-11]
    assert metrics.prompt_fidelity(features, features).dtype == np.float64


@pytest.mark.parametrize("shape", [(4, 3), (2, 4, 3)])
def test_normalised_rows_have_length_one_and_keep_their_direction(shape):
    rows = np.random.default_rng(1).normal(size=shape)
    unit = metrics.normalised(rows)
    assert unit.dtype == np.float32
    lengths = np.sqrt((rows * rows).sum(axis=-1))
    for axis in range(3):
        assert unit[..., axis] * lengths == pytest.approx(rows[..., axis], rel=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.6, 1.0])
def test_overall_score_is_linear_in_both_scores(weight):
    dino, clip_t = [0.7, -0.2, 0.3], [0.31, 0.25, -0.4]
    expected = [weight * d + (1.0 - weight) * c for d, c in zip(dino, clip_t, strict=True)]
    scores = metrics.overall_score(np.array(dino), np.array(clip_t), subject_weight=weight)
    assert scores == pytest.approx(expected)
