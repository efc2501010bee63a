"""What the report reads from manifests: tolerant models of their metadata and JSON files."""

import math
from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator, model_validator

from boothline.report.model import CurvePoint, Estimate


class Loose(BaseModel):
    """Base of records written by other steps: fields that the report does not know are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Measured(Loose):
    """A mean with its confidence interval; a bare number is a mean without one."""

    mean: float
    low: float | None = None
    high: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: object) -> object:
        return {"mean": value} if isinstance(value, int | float) else value

    def estimate(self) -> Estimate:
        """Return the values as the page shows them."""
        return Estimate(mean=self.mean, low=self.low, high=self.high)


Scores = dict[str, Measured]


def finite_scores(value: object) -> object:
    """Return scores without those that are missing, not finite or not scores at all."""
    if not isinstance(value, dict):
        return value
    kept = {}
    for key, score in value.items():
        mean = score.get("mean") if isinstance(score, dict) else score
        if isinstance(mean, int | float) and not isinstance(mean, bool) and math.isfinite(mean):
            kept[key] = score
    return kept


class CopiesRecord(Loose):
    """Signs of overfitting in the metadata of an `evaluation` manifest."""

    bound: float = 0.0
    num_images: int = 0
    num_near_copies: int = 0
    expected_share: float = 0.0
    warning: bool = False


class ScoreRow(Loose):
    """One line of the `scores.jsonl` of an evaluation."""

    model: str
    image: str
    prompt: str = ""
    sample: int = 0
    nearest: str = ""
    nearest_cosine: float = 0.0


class EvaluationRecord(Loose):
    """Metadata of an `evaluation` manifest."""

    prompts: tuple[str, ...] = ()
    images_per_prompt: int = 0
    metrics: dict[str, Scores] = Field(default_factory=dict)
    gains: dict[str, Scores] = Field(default_factory=dict)
    real: Scores = Field(default_factory=dict)
    champion: str = ""
    div_distance: str = ""
    prompt_set: str = ""
    copies: CopiesRecord = CopiesRecord()

    @field_validator("metrics", "gains", mode="before")
    @classmethod
    def _keep_finite(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {key: finite_scores(scores) for key, scores in value.items()}

    @field_validator("real", mode="before")
    @classmethod
    def _keep_finite_real(cls, value: object) -> object:
        return finite_scores(value)


class RuleRecord(Loose):
    """One rule of the gate."""

    name: str
    passed: bool
    value: float | None = None
    bound: float | None = None
    text: str = ""


class PromotionRecord(Loose):
    """Metadata of a `promotion` manifest."""

    verdict: str
    rules: tuple[RuleRecord, ...] = ()
    model_name: str = ""
    champion_before: str = ""


class AcceptedRecord(Loose):
    """An accepted picture in the data report."""

    source: str
    image: str = ""
    width_px: int = 0
    height_px: int = 0


class QuarantineRecord(Loose):
    """A refused picture in the data report; the reason reads on from its name."""

    source: str
    reason: str = ""
    advice: str = ""
    thumbnail: str = ""


class WarningRecord(Loose):
    """A warning in the data report; the message reads on from the picture's name."""

    source: str = ""
    message: str
    advice: str = ""


class DataReport(Loose):
    """`report.json` of a `dataset` manifest."""

    accepted: tuple[AcceptedRecord, ...] = ()
    quarantined: tuple[QuarantineRecord, ...] = ()
    warnings: tuple[WarningRecord, ...] = ()


class CaptionRecord(Loose):
    """One line of a `captions.jsonl`."""

    image: str
    caption: str = ""
    source: str = ""


class BatchRecord(Loose):
    """One line of the `index.jsonl` of batch inference."""

    image: str
    prompt: str = ""
    seed: int | None = None


_CURVE_LINE = TypeAdapter(dict[str, float | int | None])


def curve_points(lines: Iterator[bytes]) -> Iterator[CurvePoint]:
    """Yield the points of a `curve.jsonl`.

    Raises:
        ValidationError: a line is not an object of numbers.
    """
    for line in lines:
        values = _CURVE_LINE.validate_json(line)
        yield CurvePoint(
            step=int(values.pop("step", None) or 0),
            values={key: float(value) for key, value in values.items() if value is not None},
        )
