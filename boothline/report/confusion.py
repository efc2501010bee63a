"""What the report shows of how far a model takes its subjects for each other."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ConfusionTable:
    """What the pictures of one model are most like, by the subject that they were asked for.

    Attributes:
        title: the model.
        confused: share of the pictures that are most like another subject.
        rows: of each subject, name and by subject the share of its pictures and the mean cosine.
    """

    title: str
    confused: float
    rows: tuple[tuple[str, tuple[tuple[float, float], ...]], ...]
