"""The one table of metrics, and what a score is."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric of the evaluation, as everything that shows it names and prints it.

    Attributes:
        name: in manifests, settings and MLflow.
        short: in the head of a narrow column.
        label: for people.
        meaning: what it measures, in one sentence.
        unit: what its numbers are.
        higher_is_better: whether a model gains by a higher value.
        sentence: the subject of a sentence about it, where that is not its title.
        decimals: how many are printed.
    """

    name: str
    short: str
    label: str
    meaning: str
    unit: str = "cosine"
    higher_is_better: bool = True
    sentence: str = ""
    decimals: int = 3

    @property
    def title(self) -> str:
        """Label and short name, e.g. `Subject fidelity (DINO)`."""
        repeats = self.short.lower() in self.label.lower().split()
        return self.label if repeats else f"{self.label} ({self.short})"

    @property
    def subject(self) -> str:
        """The subject of a sentence about the metric."""
        return self.sentence or self.title

    @property
    def explanation(self) -> str:
        """What it measures and which way is better."""
        return f"{self.meaning} {'Higher' if self.higher_is_better else 'Lower'} is better."

    def text(self, value: float) -> str:
        """Return a value as it is printed."""
        return f"{value:.{self.decimals}f}"


METRICS: Final[Mapping[str, Metric]] = {
    metric.name: metric
    for metric in (
        Metric(
            name="score",
            short="Score",
            label="Overall score",
            meaning="Weighted mean of subject and prompt fidelity; the gate compares it with the "
            "champion's.",
            unit="weighted mean of cosines",
            sentence="The score",
        ),
        Metric(
            name="dino",
            short="DINO",
            label="Subject fidelity",
            meaning="How much generated pictures look like the real ones.",
        ),
        Metric(
            name="clip_i",
            short="CLIP-I",
            label="Subject fidelity",
            meaning="The same question, asked with the picture half of CLIP.",
        ),
        Metric(
            name="clip_t",
            short="CLIP-T",
            label="Prompt fidelity",
            meaning="How well a picture shows what its prompt says.",
        ),
        Metric(
            name="div",
            short="DIV",
            label="Diversity",
            meaning="How different the pictures of one prompt are.",
            unit="distance",
        ),
        Metric(
            name="pres",
            short="PRES",
            label="Prior preservation",
            meaning="How much random pictures of the class look like the subject.",
            higher_is_better=False,
            sentence="Likeness of class pictures to the subject (PRES)",
        ),
    )
}
"""Every metric by its name, in the order in which they are shown."""
GAINED: Final = tuple(metric.name for metric in METRICS.values() if metric.higher_is_better)
"""Metrics in which one model gains over another."""


def _number(value: object) -> object:
    """Return a number; anything else that was written for one is not a number."""
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else math.nan


Number = Annotated[float, BeforeValidator(_number)]


class Score(BaseModel):
    """A mean and the bounds of its 95 % interval, where they are known.

    A bare number is a mean without an interval; what is not a number is NaN.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    mean: Number
    low: Number | None = None
    high: Number | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: object) -> object:
        return value if isinstance(value, Mapping | Score) else {"mean": value}

    @property
    def is_finite(self) -> bool:
        """Whether the mean is a finite number."""
        return math.isfinite(self.mean)

    def rounded(self, decimals: int = 6) -> "Score":
        """Return the score as it is written."""
        values = {name: round(value, decimals) for name, value in self if value is not None}
        return Score.model_validate(values)

    def divided(self, by: float) -> "Score":
        """Return the score with its bounds as shares of a number."""
        low, high = (None if bound is None else bound / by for bound in (self.low, self.high))
        return Score(mean=self.mean / by, low=low, high=high)


def _unmeasured(value: object) -> object:
    """Return None for a score that was not measured: null, or a mean of null."""
    return None if isinstance(value, Mapping) and value.get("mean") is None else value


Scores = dict[str, Annotated[Score | None, BeforeValidator(_unmeasured)]]


def finite(scores: Scores) -> dict[str, Score]:
    """Return the scores that are finite numbers, known metrics first in the table's order."""
    order = [*(name for name in METRICS if name in scores), *sorted(scores.keys() - METRICS)]
    return {name: score for name in order if (score := scores[name]) and score.is_finite}
