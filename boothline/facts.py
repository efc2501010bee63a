"""The smaller facts that results are made of; see `boothline.results`."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from boothline.config.sweep import Value


class Facts(BaseModel):
    """Base of what a manifest says; facts of later versions are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class RuleResult(Facts):
    """What one rule of the gate says: what was measured, the bound, and all in one sentence."""

    name: str
    passed: bool
    value: float | None = Field(default=None, description="None: no single finite number.")
    bound: float | None = None
    text: str = ""


class Trigger(Facts):
    """What one trigger of a retraining says, if it asks for one, and which run claimed it."""

    name: Literal["new_data", "champion_age", "champion_score"]
    fired: bool
    key: str = ""  # names this very occurrence
    claimed_by: str = ""
    text: str


class TrialRow(Facts):
    """One trial of a sweep; a failed one has no scores, model or evaluation."""

    trial: int
    settings: dict[str, Value] = {}
    scores: dict[str, float] = {}
    failure: str = Field(default="", description="Step and reason of a trial that failed.")
    model: str = ""
    evaluation: str = ""


class CopySigns(Facts):
    """Signs that a model repeats its training pictures; nothing is given for one real picture."""

    bound: float = 0.0
    nearest_mean: float = 0.0
    num_images: int = 0
    num_near_copies: int = 0
    expected_share: float = 0.0
    warning: bool = False


class ModelBase(Facts):
    """The base model of a model: where it was found, and its content."""

    source: str = ""
    digest: str = ""


class SubjectPart(Facts):
    """What a result of several subjects holds of one of them: a result of its own.

    Attributes:
        subject: its name.
        content: content digest of that result, so that the whole's own digest follows from it.
    """

    subject: str
    content: str


class SubjectWords(Facts):
    """The words by which a model of several subjects is asked for one of them."""

    name: str
    identifier: str
    class_noun: str


Matrix = tuple[tuple[float, ...], ...]


class Confusion(Facts):
    """How far a model takes its subjects for each other, by DINO.

    Row i is about the pictures that were asked for subject i, column j about the real pictures of
    subject j.

    Attributes:
        subjects: their names, in order.
        scores: by model, the mean cosine of the pictures with the real ones.
        shares: by model, the share of the pictures that are most like each subject.
    """

    subjects: tuple[str, ...]
    scores: dict[str, Matrix]
    shares: dict[str, Matrix]

    def confused(self, model: str) -> float:
        """Return the share of a model's pictures that are most like another subject."""
        shares = self.shares[model]
        return 1 - sum(row[place] for place, row in enumerate(shares)) / len(shares)
