"""The metrics of the DreamBooth paper over encoded pictures, and their confidence intervals.

Ruiz et al., "DreamBooth: fine tuning text-to-image diffusion models for subject-driven generation",
CVPR 2023. All features are unit vectors, so a cosine is a dot product. Shapes: N pictures, M real
pictures, P prompts, S pictures of one prompt, D features. Sums run in float64.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from boothline.measures import Score

LEVEL = 0.95
_MAX_DRAWS_AT_ONCE = 4_000_000


FloatArray = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Scores = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


def normalised(features: FloatArray) -> npt.NDArray[np.float32]:
    """Return features (N, D) scaled to unit length, float32.

    Raises:
        ValueError: a row is zero or not finite.
    """
    wide = np.asarray(features, dtype=np.float64)
    lengths = np.linalg.norm(wide, axis=-1, keepdims=True)
    if not np.all(np.isfinite(lengths)) or np.any(lengths == 0):
        raise ValueError("features have rows that are zero or not finite")
    unit: npt.NDArray[np.float32] = (wide / lengths).astype(np.float32)
    return unit


def subject_fidelity(generated: FloatArray, real: FloatArray) -> Scores:
    """Return (N,): mean cosine of each generated picture with all real ones, in [-1, 1].

    The mean over pictures is the DINO score with DINO features and CLIP-I with CLIP's. With
    generated pictures of the class at large it is PRES, where lower is better.

    Args:
        generated: (N, D) unit features.
        real: (M, D) unit features of the subject's pictures.
    """
    means: Scores = (_wide(generated) @ _wide(real).T).mean(axis=1)
    return means


def prompt_fidelity(generated: FloatArray, texts: FloatArray) -> Scores:
    """Return (N,): cosine of each picture with its own prompt, in [-1, 1]; its mean is CLIP-T.

    Args:
        generated: (N, D) unit picture features.
        texts: (N, D) unit features of the prompts, one a picture.
    """
    cosines: Scores = np.einsum("nd,nd->n", _wide(generated), _wide(texts))
    return cosines


def diversity(features: FloatArray) -> Scores:
    """Return (P,): mean distance 1 - cosine between the pictures of each prompt, in [0, 2]; DIV.

    The paper measures the distance with LPIPS; here it is taken between the features given.

    Args:
        features: (P, S, D) unit features, S at least 2.

    Raises:
        ValueError: a prompt has one picture only.
    """
    num_images = features.shape[1]
    if num_images < 2:
        raise ValueError("diversity needs at least two pictures of a prompt")
    wide = _wide(features)
    cosines = wide @ wide.transpose(0, 2, 1)
    first, second = np.triu_indices(num_images, k=1)
    distances: Scores = 1 - cosines[:, first, second].mean(axis=1)
    return distances


def real_fidelity(real: FloatArray) -> Scores:
    """Return (M,): mean cosine of each real picture with the other ones: an upper reference.

    Args:
        real: (M, D) unit features, M at least 2.

    Raises:
        ValueError: there is one picture only.
    """
    num_images = real.shape[0]
    if num_images < 2:
        raise ValueError("comparing real pictures with each other needs at least two")
    cosines = _wide(real) @ _wide(real).T
    np.fill_diagonal(cosines, 0)
    means: Scores = cosines.sum(axis=1) / (num_images - 1)
    return means


def nearest_cosines(features: FloatArray, real: FloatArray) -> tuple[Scores, Indices]:
    """Return (N,) cosines and (N,) indices of the real picture most like each picture.

    Args:
        features: (N, D) unit features.
        real: (M, D) unit features.
    """
    cosines = _wide(features) @ _wide(real).T
    nearest: Indices = cosines.argmax(axis=1)
    return cosines.max(axis=1), nearest


def own_nearest_cosine(real: FloatArray) -> float:
    """Return the highest cosine between two different real pictures.

    A generated picture beyond it is more like one real picture than any two of them are like each
    other: closer to a copy than to another picture of the subject.

    Args:
        real: (M, D) unit features, M at least 2.

    Raises:
        ValueError: there is one picture only.
    """
    if real.shape[0] < 2:
        raise ValueError("comparing real pictures with each other needs at least two")
    cosines = _wide(real) @ _wide(real).T
    np.fill_diagonal(cosines, -np.inf)
    return float(cosines.max())


def overall_score(dino: Scores, clip_t: Scores, *, subject_weight: float) -> Scores:
    """Return subject_weight x dino + (1 - subject_weight) x clip_t, element by element."""
    return subject_weight * dino + (1 - subject_weight) * clip_t


def _wide(features: FloatArray) -> Scores:
    return np.asarray(features, dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """A paired bootstrap.

    Percentile intervals: Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter
    13. Pictures of one prompt are alike, so whole prompts are drawn with replacement first, then
    pictures within each drawn prompt. The draws depend on the seed and the shape alone: every score
    and every model is resampled with the same draws, so a difference of models is paired picture by
    picture.

    Attributes:
        num_resamples: resamples that the interval is read from.
        seed: fixes all draws.
    """

    num_resamples: int
    seed: int = 0

    def estimate(self, values: Scores) -> Score:
        """Return the mean of scores and its interval.

        Args:
            values: (P, S) scores of S pictures for each of P prompts, or (P,) one score a
                prompt. For the gain of one model over another pass the difference of their scores.

        Raises:
            ValueError: there are no scores.
        """
        table = np.asarray(values, dtype=np.float64)
        if table.size == 0:
            raise ValueError("no scores to resample")
        table = table.reshape(table.shape[0], -1)
        means = np.concatenate(
            [table[prompts, images].mean(axis=(1, 2)) for prompts, images in self._draws(table)]
        )
        low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Score(mean=float(table.mean()), low=float(low), high=float(high))

    def _draws(self, table: Scores) -> Iterator[tuple[Indices, Indices]]:
        """Yield (R, P, 1) prompt and (R, P, S) picture indices until there are enough resamples."""
        num_prompts, num_images = table.shape
        rng = np.random.default_rng([self.seed, num_prompts, num_images])
        at_once = max(1, _MAX_DRAWS_AT_ONCE // table.size)
        for start in range(0, self.num_resamples, at_once):
            count = min(at_once, self.num_resamples - start)
            prompts = rng.integers(num_prompts, size=(count, num_prompts, 1))
            yield prompts, rng.integers(num_images, size=(count, num_prompts, num_images))
