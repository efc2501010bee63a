"""Confidence intervals by a paired bootstrap over prompts and pictures.

Percentile intervals: Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter 13.
Pictures of one prompt are alike, so whole prompts are drawn with replacement first, then pictures
within each drawn prompt. The draws depend on the seed and the shape alone: every score and every
model is resampled with the same draws, so a difference of models is paired picture by picture.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from boothline.evaluation.metrics import Scores
from boothline.measures import Score

LEVEL = 0.95
_MAX_DRAWS_AT_ONCE = 4_000_000

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """A paired bootstrap.

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
