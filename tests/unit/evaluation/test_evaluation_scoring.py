from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from boothline.evaluation.encoders import Features
from boothline.evaluation.metrics import Bootstrap, normalised
from boothline.evaluation.scoring import Judge, copies_of, rows_of, summarise
from boothline.measures import Score

COLOURS = {"red": (250, 10, 10), "green": (10, 250, 10), "blue": (10, 10, 250)}
BOOTSTRAP = Bootstrap(num_resamples=200)


class ColourEncoder:
    """Encodes a picture by its mean colour and a text by the colours it names."""

    def encode(self, images: Sequence[Image.Image]) -> Features:
        return normalised(
            np.stack([np.asarray(image, dtype=float).mean(axis=(0, 1)) for image in images])
        )

    def encode_texts(self, texts: Sequence[str]) -> Features:
        named = [[COLOURS[word] for word in text.split() if word in COLOURS] for text in texts]
        return normalised(np.array([np.mean(colours, axis=0) for colours in named]))


def _picture(colour: str, brightness: int = 0) -> Image.Image:
    return Image.new("RGB", (8, 8), tuple(max(0, level - brightness) for level in COLOURS[colour]))


@pytest.fixture
def judge() -> Judge:
    return Judge(dino=ColourEncoder(), clip=ColourEncoder(), subject_weight=0.5)


TEXTS = ("a red bear", "a bear on red")


def test_score_pictures_like_the_subject_score_higher_than_others(judge):
    subject = judge.subject([_picture("red"), _picture("red", 20)])
    like = judge.score([_picture("red")] * 4, texts=TEXTS, subject=subject)
    other = judge.score([_picture("blue")] * 4, texts=TEXTS, subject=subject)
    assert like.dino.shape == (2, 2)
    assert like.dino.min() > 0.99 > 0.2 > other.dino.max()
    assert (like.clip_t > other.clip_t).all()
    assert like.score == pytest.approx((like.dino + like.clip_t) / 2)


def test_score_text_goes_with_the_pictures_of_its_prompt(judge):
    subject = judge.subject([_picture("red")] * 2)
    pictures = [_picture("red")] * 2 + [_picture("blue")] * 2
    right = judge.score(pictures, texts=["red", "blue"], subject=subject)
    wrong = judge.score(pictures, texts=["blue", "red"], subject=subject)
    assert right.clip_t.min() > 0.99
    assert wrong.clip_t.max() < 0.2


def test_score_diversity_and_preservation_are_left_out_where_they_do_not_exist(judge):
    subject = judge.subject([_picture("red")] * 2)
    scores = judge.score([_picture("red")] * 2, texts=TEXTS, subject=subject)
    assert (scores.div, scores.pres) == (None, None)
    summary = summarise({"finetuned": scores}, subject=subject, bootstrap=BOOTSTRAP)
    assert set(summary["metrics"]["finetuned"]) == {"dino", "clip_i", "clip_t", "score"}


def test_summarise_gain_is_the_candidate_over_the_other(judge):
    subject = judge.subject([_picture("red"), _picture("red", 5)])
    class_images = [_picture("green")] * 3
    scores = {
        name: judge.score(
            [_picture(colour)] * 4, texts=TEXTS, subject=subject, class_images=class_images
        )
        for name, colour in (("finetuned", "red"), ("base", "blue"), ("champion", "red"))
    }
    summary = summarise(scores, subject=subject, bootstrap=BOOTSTRAP)
    assert set(summary["metrics"]) == {"finetuned", "base", "champion"}
    assert set(summary["metrics"]["base"]) == {"dino", "clip_i", "clip_t", "score", "div", "pres"}
    dino = {name: summary["metrics"][name]["dino"].mean for name in scores}
    gain = summary["gains"]["base"]["dino"]
    assert gain.mean == pytest.approx(dino["finetuned"] - dino["base"], abs=2e-6)
    assert gain.low > 0.5
    assert summary["gains"]["champion"]["score"] == Score(mean=0.0, low=0.0, high=0.0)
    assert summary["real"]["dino"].mean > 0.99
    assert set(summary["real"]) == {"dino", "clip_i"}


def test_rows_of_pictures_carry_prompt_and_scores_in_order(judge):
    subject = judge.subject([_picture("red")] * 2)
    pictures = [_picture("red"), _picture("blue"), _picture("blue"), _picture("red")]
    scores = judge.score(pictures, texts=TEXTS, subject=subject)
    rows = rows_of(
        "base",
        scores,
        images=[f"{n}.png" for n in range(4)],
        prompts=TEXTS,
        real=["a.png", "b.png"],
    )
    assert {row["nearest"] for row in rows} == {"a.png"}
    assert [(row["image"], row["prompt"], row["sample"]) for row in rows] == [
        ("0.png", TEXTS[0], 0),
        ("1.png", TEXTS[0], 1),
        ("2.png", TEXTS[1], 0),
        ("3.png", TEXTS[1], 1),
    ]
    assert rows[0]["dino"] > 0.99 > rows[1]["dino"]


def test_copies_of_pictures_beyond_the_real_ones_own_likeness_are_counted(judge):
    real = [_picture("red"), _picture("green"), Image.new("RGB", (8, 8), (200, 120, 10))]
    subject = judge.subject(real)
    fresh = [Image.new("RGB", (8, 8), (10, 120, 250))] * 4
    copied = judge.score([real[0], real[1], *fresh[:2]], texts=TEXTS, subject=subject)
    found = copies_of(copied, subject=subject)
    assert (found.num_near_copies, found.num_images) == (2, 4)
    assert found.expected_share == 0.5
    assert found.warning is False
    assert copied.nearest.ravel()[:2].tolist() == [0, 1]
    all_copied = judge.score([real[0], real[1], real[2], real[0]], texts=TEXTS, subject=subject)
    assert copies_of(all_copied, subject=subject).warning is True
    none = judge.score(fresh, texts=TEXTS, subject=subject)
    assert copies_of(none, subject=subject).num_near_copies == 0


def test_copies_of_with_one_real_picture_cannot_be_told(judge):
    subject = judge.subject([_picture("red")])
    scores = judge.score([_picture("red")] * 2, texts=TEXTS, subject=subject)
    assert copies_of(scores, subject=subject).model_dump(exclude_unset=True) == {}


class LevelDistance:
    """The difference in the mean level of red."""

    def between(self, images: Sequence[Image.Image]) -> np.ndarray:
        reds = [np.asarray(image)[..., 0].mean() for image in images]
        return np.array([abs(a - b) for a, b in combinations(reds, 2)])


def test_diversity_by_another_distance_is_its_mean_over_pairs_of_a_prompt(judge):
    judge = replace(judge, distance=LevelDistance())
    subject = judge.subject([_picture("red")] * 2)
    pictures = [_picture("red", level) for level in (0, 10, 40, 0, 0, 30)]
    scores = judge.score(pictures, texts=TEXTS, subject=subject)
    assert scores.div == pytest.approx([np.mean([10, 40, 30]), np.mean([0, 30, 30])])
