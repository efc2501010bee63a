"""What the report reads from the files of manifests: tolerant models of their JSON."""

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, TypeAdapter

from boothline.report.model import CurvePoint


class Loose(BaseModel):
    """Base of records written by other steps: fields that the report does not know are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ScoreRow(Loose):
    """One line of the `scores.jsonl` of an evaluation."""

    model: str
    image: str
    prompt: str = ""
    sample: int = 0
    nearest: str = ""
    nearest_cosine: float = 0.0


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
