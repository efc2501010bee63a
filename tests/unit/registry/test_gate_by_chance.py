"""How often the gate promotes a model that is no better than the base: the base itself.

The pictures of two seeds of one model differ by chance alone. Prompts differ in how well they go,
which both share, and pictures of a prompt differ among themselves.
"""

from typing import Any

import numpy as np
import pytest

from boothline.config.evaluation import EvaluationConfig
from boothline.config.promotion import PromotionConfig
from boothline.evaluation.metrics import Bootstrap
from boothline.evaluation.scoring import PictureScores, Subject, summarise
from boothline.registry.gate import judge
from boothline.results import BASE, CHAMPION, FINE_TUNED, Evaluation

NUM_MODELS = 200
MOST = 0.05
EVALUATION = EvaluationConfig()
SHAPE = (len(EVALUATION.prompts), EVALUATION.images_per_prompt)
NUM_CLASS_PICTURES = 8
# Spread between prompts and within one, about those of the emoji base's bears.
BETWEEN, WITHIN = 0.10, 0.12
PROMPT_WITHIN = 0.05  # texts and pictures are less alike, and less unlike
BY_MEAN = PromotionConfig.model_validate({"margins": {"statistic": "mean"}})


def pictures(rng: np.random.Generator, prompts: np.ndarray) -> PictureScores:
    """The scores of one seed's pictures by a model whose prompts go so well."""

    def drawn(level: float, within: float = WITHIN) -> np.ndarray:
        return level + prompts + rng.normal(0, within, SHAPE)

    dino, clip_t = drawn(0.45), drawn(0.3, PROMPT_WITHIN)
    return PictureScores(
        dino=dino,
        clip_i=drawn(0.5),
        clip_t=clip_t,
        score=0.5 * (dino + clip_t),
        div=0.5 + rng.normal(0, 0.08, SHAPE[0]),
        pres=0.45 + rng.normal(0, WITHIN, NUM_CLASS_PICTURES),
        nearest_cosine=drawn(0.5),
        nearest=np.zeros(SHAPE, dtype=np.int64),
    )


def evaluated(seed: int, *, gain: float = 0.0, champion: bool = False) -> Evaluation:
    """Judge one seed of the base against another, and against a third as champion."""
    rng = np.random.default_rng(seed)
    prompts = rng.normal(0, BETWEEN, (SHAPE[0], 1))
    names = [FINE_TUNED, BASE, *([CHAMPION] if champion else [])]
    scores = {name: pictures(rng, prompts) for name in names}
    scores[FINE_TUNED].dino[:] += gain
    features = rng.normal(size=(4, 8)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    summary: Any = summarise(
        scores,
        subject=Subject(dino=features, clip=features),
        bootstrap=Bootstrap(num_resamples=EVALUATION.num_bootstrap, seed=seed),
    )
    return Evaluation(**summary, champion=f"a/b@sha256:{'0' * 64}" if champion else "")


def promoted_share(promotion: PromotionConfig, **settings: Any) -> float:
    verdicts = [judge(evaluated(seed, **settings), promotion) for seed in range(NUM_MODELS)]
    return float(np.mean([verdict.promoted for verdict in verdicts]))


@pytest.mark.proves("F51/bound")
@pytest.mark.parametrize("champion", [False, True], ids=["first", "second"])
def test_gate_promotes_the_base_against_itself_in_at_most_5_percent(champion: bool) -> None:
    assert promoted_share(PromotionConfig(), champion=champion) <= MOST


def test_gate_by_the_mean_promotes_the_base_against_itself_far_more_often() -> None:
    assert promoted_share(BY_MEAN) > 2 * MOST


@pytest.mark.proves("F51/bound")
def test_gate_promotes_a_model_that_is_better_by_far() -> None:
    assert promoted_share(PromotionConfig(), gain=0.3) > 0.5
