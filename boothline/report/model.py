"""What the report shows, as plain values: no store, no markup."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from boothline.measures import Score
from boothline.report.confusion import ConfusionTable

Tone = Literal["good", "held", "bad", "busy", "plain"]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One embedded picture.

    Attributes:
        source: data URI.
        alt: what it shows, for those who do not see it.
        caption: text under the picture when it is zoomed.
        width_px, height_px: size of the embedded picture.
        twin: pictures with the same non-empty twin are zoomed side by side.
    """

    source: str
    alt: str
    caption: str
    width_px: int
    height_px: int
    twin: str = ""


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Pictures of one section, with the number there would have been."""

    pictures: tuple[Picture, ...] = ()
    total: int = 0

    @property
    def left_out(self) -> int:
        """Number of pictures that are not embedded."""
        return max(0, self.total - len(self.pictures))


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule of the gate, in words."""

    name: str
    passed: bool
    text: str


@dataclass(frozen=True, kw_only=True)
class FailureNote:
    """The step that stopped the run, and what to do."""

    step: str
    kind: str
    message: str
    remedy: str
    resume_command: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of the run in a few words."""

    tone: Tone
    word: str
    title: str
    sentences: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    failures: tuple[FailureNote, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One row of a metric: the fine-tuned model, the base, the champion or the real pictures."""

    key: str
    name: str
    estimate: Score


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One score of the evaluation.

    Attributes:
        key: name in the evaluation manifest.
        name: name for people.
        meaning: one sentence on what it measures.
        contenders: values to compare, the fine-tuned model first.
        gain: fine-tuned minus base, if it was measured.
    """

    key: str
    name: str
    meaning: str
    contenders: tuple[Contender, ...]
    gain: Score | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The pictures of one prompt, one gallery a contender."""

    prompt: str
    columns: tuple[tuple[str, Gallery], ...]


@dataclass(frozen=True, kw_only=True)
class Comparisons:
    """Pictures per prompt, with the counts that were left out."""

    rows: tuple[Comparison, ...] = ()
    num_prompts: int = 0
    images_per_prompt: int = 0
    images_shown: int = 0


@dataclass(frozen=True, kw_only=True)
class DataFinding:
    """Something that was found about the data; the message reads on from the picture's name."""

    source: str
    message: str
    advice: str
    thumbnail: Picture | None = None


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What was learnt and from what.

    Attributes:
        registered: `NAME@VERSION` of the model; empty where it is not registered.
    """

    name: str
    identifier: str
    class_noun: str
    model_name: str
    base_model: str
    registered: str = ""
    pictures: Gallery = Gallery()
    class_pictures: Gallery = Gallery()
    num_own_class_pictures: int = 0
    quarantined: tuple[DataFinding, ...] = ()
    num_quarantined: int = 0
    warnings: tuple[DataFinding, ...] = ()
    num_warnings: int = 0


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """Losses after one optimizer step; None where none was logged."""

    step: int
    values: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Training:
    """How the training went."""

    curve: tuple[CurvePoint, ...] = ()
    validation: tuple[CurvePoint, ...] = ()
    sheets: Gallery = Gallery()
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class TrialLine:
    """One trial of a sweep.

    Attributes:
        number: of the trial, from 0.
        settings: what it tried, on one line.
        scores: mean by name of the score; empty for a trial that failed.
        failure: step and reason of a trial that failed.
    """

    number: int
    settings: str
    scores: dict[str, float]
    failure: str = ""


@dataclass(frozen=True, kw_only=True)
class Leaderboard:
    """The trials of a sweep, the best first."""

    trials: tuple[TrialLine, ...] = ()
    scores: tuple[str, ...] = ()

    @property
    def num_failed(self) -> int:
        """Number of trials that failed."""
        return sum(bool(trial.failure) for trial in self.trials)


@dataclass(frozen=True, kw_only=True)
class StepLine:
    """One step or shard in the timings."""

    label: str
    status: str
    seconds: float
    reused: bool
    manifest_digest: str = ""


class UnitCost(NamedTuple):
    """What one unit of a step's result cost; None where it was not measured."""

    unit: str
    cpu_seconds: float
    gpu_seconds: float | None
    joules: float | None


@dataclass(frozen=True, kw_only=True)
class CostLine:
    """What one step or shard cost in this run; None where it was not measured.

    Attributes:
        per: what one unit of its result cost; None: nothing is counted, or it was reused.
    """

    label: str
    reused: bool
    seconds: float
    cpu_seconds: float | None = None
    gpu_seconds: float | None = None
    joules: float | None = None
    per: UnitCost | None = None


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What the run cost.

    Attributes:
        lines: step by step.
        energy: which energy was read, in words.
    """

    lines: tuple[CostLine, ...] = ()
    energy: str = ""

    @property
    def cpu_seconds(self) -> float | None:
        """Processor time of all steps that were measured."""
        return _total([line.cpu_seconds for line in self.lines])

    @property
    def gpu_seconds(self) -> float | None:
        """GPU time that the steps held."""
        return _total([line.gpu_seconds for line in self.lines])


def _total(values: list[float | None]) -> float | None:
    """Return the sum of what was measured, or None when nothing was."""
    measured = [value for value in values if value is not None]
    return sum(measured) if measured else None


@dataclass(frozen=True, kw_only=True)
class CopyPair:
    """A generated picture and the training picture that it is most like.

    Attributes:
        cosine: of their DINO features.
        is_near_copy: more alike than any two training pictures.
    """

    generated: Picture
    real: Picture
    cosine: float
    is_near_copy: bool


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Signs that the model repeats its training pictures."""

    pairs: tuple[CopyPair, ...] = ()
    bound: float = 0.0
    num_images: int = 0
    num_near_copies: int = 0
    expected_share: float = 0.0
    warning: bool = False


@dataclass(frozen=True, kw_only=True)
class LineageLink:
    """A manifest that another one was made from."""

    digest: str
    kind: str
    known: bool


@dataclass(frozen=True, kw_only=True)
class LineageNode:
    """One manifest of the lineage.

    Attributes:
        is_part: it holds a part of a step's result rather than a result or training state.
    """

    digest: str
    path: str
    kind: str
    uri: str
    num_files: int
    size_bytes: int
    created_at: str
    content_digest: str
    inputs: tuple[LineageLink, ...] = ()
    is_part: bool = False


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """The manifests that a run is made of, results first."""

    nodes: tuple[LineageNode, ...] = ()
    num_left_out: int = 0


@dataclass(frozen=True, kw_only=True)
class SweepReport:
    """What is on the page of a sweep's leaderboard."""

    verdict: Verdict
    leaderboard: Leaderboard


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """Everything on the page.

    Attributes:
        about: name of the subject that it is about, where the run has several.
        several: the same for each of several subjects; none: there is one.
    """

    run_id: str
    pipeline: str
    profile: str
    status: str
    created_at: float
    seconds: float
    verdict: Verdict
    subject: Subject
    leaderboard: Leaderboard = Leaderboard()
    metrics: tuple[Metric, ...] = ()
    published: tuple[Metric, ...] = ()
    same_encoders: bool = False
    evaluation_facts: tuple[tuple[str, str], ...] = ()
    copies: Copies = Copies()
    cost: Cost = Cost()
    comparisons: Comparisons = Comparisons()
    batch: Gallery = Gallery()
    training: Training = Training()
    steps: tuple[StepLine, ...] = ()
    lineage: Lineage = Lineage()
    changed_settings: tuple[tuple[str, str, str], ...] = ()
    config_yaml: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    notices: tuple[str, ...] = field(default=())
    about: str = ""
    several: tuple["RunReport", ...] = ()
    confusion: tuple[ConfusionTable, ...] = ()

    @property
    def parts(self) -> tuple["RunReport", ...]:
        """The report of each subject."""
        return self.several or (self,)

    @property
    def anchor(self) -> str:
        """Ends the anchors of what is about one of several subjects."""
        return f"-{self.about}" if self.about else ""

    @property
    def heading(self) -> str:
        """Begins the headings of what is about one of several subjects."""
        return f"{self.about}: " if self.about else ""
