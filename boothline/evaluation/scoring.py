"""Scores the pictures of several models against the subject's pictures, and sums the scores up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from PIL import Image

from boothline.evaluation import metrics
from boothline.evaluation.encoders import Features, ImageEncoder, TextImageEncoder
from boothline.evaluation.metrics import Bootstrap, Indices, Scores
from boothline.measures import GAINED, METRICS, Score
from boothline.measures import Scores as ScoreTable
from boothline.results import FINE_TUNED, CopySigns

if TYPE_CHECKING:
    from boothline.evaluation.perceptual import PictureDistance

_ROUNDING = 1e-6


class Summary(TypedDict):
    """What the scores come to, as the evaluation names it."""

    metrics: dict[str, ScoreTable]
    gains: dict[str, ScoreTable]
    real: ScoreTable
    copies: CopySigns


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The subject's own pictures, encoded.

    Attributes:
        dino: (M, D) unit features.
        clip: (M, D) unit features.
    """

    dino: Features
    clip: Features


@dataclass(frozen=True, kw_only=True)
class PictureScores:
    """The scores of one model's pictures: S of each of P prompts.

    Attributes:
        dino, clip_i, clip_t, score: (P, S).
        div: (P,) distance between the pictures of a prompt; None with one picture a prompt.
        pres: (N,) likeness of class pictures to the subject; None without class pictures.
        nearest_cosine: (P, S) cosine with the real picture that is most alike.
        nearest: (P, S) number of that real picture.
    """

    dino: Scores
    clip_i: Scores
    clip_t: Scores
    score: Scores
    div: Scores | None
    pres: Scores | None
    nearest_cosine: Scores
    nearest: Indices


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Scores pictures.

    Attributes:
        dino: encoder of subject fidelity.
        clip: encoder of CLIP-I and CLIP-T.
        subject_weight: weight of subject fidelity in the overall score, 0 to 1.
        distance: of pictures of one prompt, for DIV; unset: 1 - cosine of DINO features.
    """

    dino: ImageEncoder
    clip: TextImageEncoder
    subject_weight: float
    distance: "PictureDistance | None" = None

    def subject(self, images: Sequence[Image.Image]) -> Subject:
        """Encode the subject's pictures."""
        return Subject(dino=self.dino.encode(images), clip=self.clip.encode(images))

    def score(
        self,
        images: Sequence[Image.Image],
        *,
        texts: Sequence[str],
        subject: Subject,
        class_images: Sequence[Image.Image] = (),
    ) -> PictureScores:
        """Score the pictures of one model.

        Args:
            images: P x S pictures, prompt by prompt.
            texts: P texts that say what the pictures of each prompt are to show.
            subject: the subject's pictures.
            class_images: pictures of the class made by the same model, for PRES.
        """
        shape = (len(texts), len(images) // len(texts))
        dino, clip = self.dino.encode(images), self.clip.encode(images)
        of_prompts = self.clip.encode_texts(texts).repeat(shape[1], axis=0)
        dino_scores = metrics.subject_fidelity(dino, subject.dino).reshape(shape)
        clip_t = metrics.prompt_fidelity(clip, of_prompts).reshape(shape)
        nearest_cosine, nearest = metrics.nearest_cosines(dino, subject.dino)
        pres = None
        if class_images:
            pres = metrics.subject_fidelity(self.dino.encode(class_images), subject.dino)
        return PictureScores(
            dino=dino_scores,
            clip_i=metrics.subject_fidelity(clip, subject.clip).reshape(shape),
            clip_t=clip_t,
            score=metrics.overall_score(dino_scores, clip_t, subject_weight=self.subject_weight),
            div=self._diversity(images, dino, shape=shape),
            pres=pres,
            nearest_cosine=nearest_cosine.reshape(shape),
            nearest=nearest.reshape(shape),
        )

    def _diversity(
        self, images: Sequence[Image.Image], dino: Features, *, shape: tuple[int, int]
    ) -> Scores | None:
        """Return (P,): mean distance between the pictures of a prompt; None with one picture."""
        num_prompts, num_images = shape
        if num_images < 2:
            return None
        if self.distance is None:
            return metrics.diversity(dino.reshape(num_prompts, num_images, -1))
        return np.array(
            [
                self.distance.between(images[start : start + num_images]).mean()
                for start in range(0, num_prompts * num_images, num_images)
            ]
        )


def summarise(
    scores: Mapping[str, PictureScores], *, subject: Subject, bootstrap: Bootstrap
) -> Summary:
    """Return metrics, gains, the real pictures' own scores and the signs of copies.

    Args:
        scores: by contender; FINE_TUNED is compared with each other one.
        subject: the subject's pictures, compared with each other.
        bootstrap: gives the intervals.
    """
    candidate = scores[FINE_TUNED]
    return {
        "metrics": {name: _means(one, bootstrap=bootstrap) for name, one in scores.items()},
        "gains": {
            name: _gains(candidate, other, bootstrap=bootstrap)
            for name, other in scores.items()
            if name != FINE_TUNED
        },
        "real": _real(subject, bootstrap=bootstrap),
        "copies": copies_of(candidate, subject=subject),
    }


def copies_of(scores: PictureScores, *, subject: Subject) -> CopySigns:
    """Return the signs that a model repeats its training pictures; empty with one real picture.

    A picture counts as a near copy when it is more like some real picture than any two real
    pictures are like each other. Of further pictures taken like the M real ones, a share of
    2 / (M + 1) would be: the most alike two of M + 1 pictures are equally likely to be any two.
    `warning` is set when there are more.

    Args:
        scores: of the fine-tuned model.
        subject: the subject's M pictures.
    """
    num_real = len(subject.dino)
    if num_real < 2:
        return CopySigns()
    bound = metrics.own_nearest_cosine(subject.dino)
    num_images = int(scores.nearest_cosine.size)
    num_copies = int((scores.nearest_cosine > bound + _ROUNDING).sum())
    expected_share = 2 / (num_real + 1)
    return CopySigns(
        bound=round(bound, 6),
        nearest_mean=round(float(scores.nearest_cosine.mean()), 6),
        num_images=num_images,
        num_near_copies=num_copies,
        expected_share=round(expected_share, 6),
        warning=num_copies > expected_share * num_images,
    )


def _means(scores: PictureScores, *, bootstrap: Bootstrap) -> ScoreTable:
    tables = {name: getattr(scores, name) for name in METRICS}
    return {
        n: bootstrap.estimate(table).rounded() for n, table in tables.items() if table is not None
    }


def _gains(candidate: PictureScores, other: PictureScores, *, bootstrap: Bootstrap) -> ScoreTable:
    """Return the gain of the candidate in each score where higher is better, picture by picture."""
    gains: dict[str, Score | None] = {}
    for name in GAINED:
        ours, theirs = getattr(candidate, name), getattr(other, name)
        if ours is not None and theirs is not None:
            gains[name] = bootstrap.estimate(ours - theirs).rounded()
    return gains


def _real(subject: Subject, *, bootstrap: Bootstrap) -> ScoreTable:
    if len(subject.dino) < 2:
        return {}
    tables = {"dino": subject.dino, "clip_i": subject.clip}
    return {
        name: bootstrap.estimate(metrics.real_fidelity(features)).rounded()
        for name, features in tables.items()
    }


def rows_of(
    name: str,
    scores: PictureScores,
    *,
    images: Sequence[str],
    prompts: Sequence[str],
    real: Sequence[str],
) -> list[dict[str, str | int | float]]:
    """Return one row a picture for `scores.jsonl`.

    Args:
        name: the contender.
        scores: its scores.
        images: path of each picture in the evaluation, prompt by prompt.
        prompts: the prompts that were sampled.
        real: path of each real picture in the dataset.
    """
    num_images = scores.dino.shape[1]
    rows: list[dict[str, str | int | float]] = []
    for number, image in enumerate(images):
        prompt, sample = divmod(number, num_images)
        values = {
            column: round(float(np.asarray(getattr(scores, column))[prompt, sample]), 6)
            for column in ("dino", "clip_i", "clip_t", "score", "nearest_cosine")
        }
        rows.append(
            {
                "model": name,
                "image": image,
                "prompt": prompts[prompt],
                "sample": sample,
                "nearest": real[int(scores.nearest[prompt, sample])],
                **values,
            }
        )
    return rows
