"""What the evaluations of several subjects come to, and how far a model confuses the subjects."""

import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image

from boothline.errors import ConflictError, DataError
from boothline.evaluation import metrics
from boothline.evaluation.encoders import Features
from boothline.facts import Confusion, Matrix
from boothline.measures import Score, Scores
from boothline.results import Dataset, Evaluation
from boothline.store import ManifestRef, Store

_PICTURES = "images/"
_DECIMALS = 6
Encode = Callable[[Sequence[Image.Image]], Features]


def confusion_of(store: Store, parts: Mapping[str, ManifestRef], *, encode: Encode) -> Confusion:
    """Compare the pictures that each model made of each subject with the real ones of all.

    Args:
        store: where they are.
        parts: evaluation of each subject, by name.
        encode: returns (N, D) unit features of N pictures.
    """
    real = [encode(_images(store, _dataset(store, ref), _PICTURES)) for ref in parts.values()]
    scores: dict[str, Matrix] = {}
    shares: dict[str, Matrix] = {}
    for model in store.read_as(Evaluation, next(iter(parts.values()))).metrics:
        rows = [
            _likeness(encode(_images(store, ref, f"{_PICTURES}{model}/")), real)
            for ref in parts.values()
        ]
        scores[model] = tuple(_rounded(row.mean(axis=0)) for row in rows)
        shares[model] = tuple(_rounded(nearest_shares(row)) for row in rows)
    return Confusion(subjects=tuple(parts), scores=scores, shares=shares)


def nearest_shares(likeness: metrics.Scores) -> metrics.Scores:
    """Return (S,): the share of pictures that are most like each subject; equals share a picture.

    Args:
        likeness: (N, S) mean cosine of N pictures with the real ones of S subjects.
    """
    best = likeness == likeness.max(axis=1, keepdims=True)
    shares: metrics.Scores = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    return shares


def of_several(found: Mapping[str, Evaluation], *, confusion: Confusion) -> Evaluation:
    """Return the means over subjects, without intervals: what is judged are the parts.

    Args:
        found: evaluation of each subject, by name.
        confusion: what was found between them.

    Raises:
        ConflictError: the champion changed between them.
    """
    every = list(found.values())
    if len({one.champion for one in every}) > 1:
        raise ConflictError(
            "The champion changed while the subjects were evaluated one after the other.",
            remedy="Run it again: what is evaluated already is kept.",
        )
    first = every[0]
    unfit = next((one.not_judged for one in every if one.not_judged), "")
    return Evaluation(
        metrics=_means_of([one.metrics for one in every]),
        gains=_means_of([one.gains for one in every]),
        real=_means([one.real for one in every]),
        prompt_set=first.prompt_set,
        images_per_prompt=first.images_per_prompt,
        champion=first.champion,
        div_distance=first.div_distance,
        confusion=confusion,
        **({"not_judged": unfit} if unfit else {}),
    )


def _likeness(generated: Features, real: Sequence[Features]) -> metrics.Scores:
    """Return (N, S): mean cosine of each picture with the real ones of each subject."""
    return np.stack([metrics.subject_fidelity(generated, one) for one in real], axis=1)


def _dataset(store: Store, evaluation: ManifestRef) -> ManifestRef:
    """Return the dataset that an evaluation read.

    Raises:
        DataError: it names none.
    """
    for text in store.read(evaluation).inputs:
        if store.read(text).kind == Dataset.kind:
            return ManifestRef.parse(text)
    raise DataError(f"{evaluation} names no dataset.", remedy="Evaluate the model again.")


def _images(store: Store, ref: ManifestRef, prefix: str) -> list[Image.Image]:
    """Return the pictures of a manifest below a folder as RGB."""
    images = []
    for entry in store.read(ref).under(prefix):
        with Image.open(io.BytesIO(store.read_bytes(ref, entry.path)), formats=("PNG",)) as image:
            images.append(image.convert("RGB"))
    return images


def _rounded(values: metrics.Scores) -> tuple[float, ...]:
    return tuple(round(float(value), _DECIMALS) for value in values)


def _means_of(tables: Sequence[Mapping[str, Scores]]) -> dict[str, Scores]:
    """Return the means of each model's scores."""
    return {model: _means([table[model] for table in tables]) for model in tables[0]}


def _means(tables: Sequence[Scores]) -> Scores:
    """Return the mean of each score that all have; None where one was not measured."""
    found: dict[str, Score | None] = {}
    for name in tables[0]:
        if any(name not in table for table in tables):
            continue
        scores = [table[name] for table in tables]
        means = [score.mean for score in scores if score is not None]
        whole = sum(means) / len(means) if len(means) == len(scores) else None
        found[name] = None if whole is None else Score(mean=round(whole, _DECIMALS))
    return found
