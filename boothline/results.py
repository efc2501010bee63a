"""The typed result of every kind of manifest.

A step builds its result as one of these models and turns it into a draft; whoever reads a manifest
asks `store.read_as(Evaluation, ref)` for it. Nothing else knows the names of a manifest's facts.
What was not given is not written, so later facts change no digest; what is lacking has a default.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Final, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, ValidationError

from boothline.errors import DataError
from boothline.facts import Confusion, Facts, SubjectPart, SubjectWords
from boothline.facts import CopySigns as CopySigns  # whoever reads a result finds its facts here
from boothline.facts import ModelBase as ModelBase
from boothline.facts import RuleResult as RuleResult
from boothline.facts import TrialRow as TrialRow
from boothline.facts import Trigger as Trigger
from boothline.measures import Score, Scores, finite
from boothline.runs import RunStatus
from boothline.store.manifest import FileEntry, Manifest, ManifestDraft, ManifestRef

FINE_TUNED, BASE, CHAMPION, REAL = "finetuned", "base", "champion", "real"
PROMOTED, REFUSED = "promoted", "refused"


class Result(Facts):
    """What a manifest of one kind says.

    Attributes:
        kind: of the manifest.
        shown: the facts that are worth showing to people.
        counted: the fact that counts the units of work that it took; empty: its pictures do.
        writes_defaults: whether facts that were not given are written with their defaults.
    """

    kind: ClassVar[str]
    shown: ClassVar[tuple[str, ...]] = ()
    counted: ClassVar[str] = ""
    writes_defaults: ClassVar[bool] = False

    @classmethod
    def of(cls, manifest: Manifest, *, name: str = "") -> Self:
        """Read a manifest of this kind; its `name` is for the message.

        Raises:
            DataError: it is of another kind, or what it says cannot be read.
        """
        name = name or "The manifest"
        if manifest.kind != cls.kind:
            raise DataError(f"{name} is of kind {manifest.kind!r}, not {cls.kind!r}.")
        try:
            return cls.model_validate(manifest.metadata)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise DataError(
                f"{name} is not a valid {cls.kind}: {where}: {first['msg']}.",
                remedy="Run the step that made it again.",
            ) from error

    def facts(self) -> dict[str, JsonValue]:
        """Return what the manifest says, as JSON."""
        return self.model_dump(mode="json", exclude_unset=not self.writes_defaults)

    def draft(
        self,
        files: Mapping[str, Path | bytes | FileEntry] | None = None,
        *,
        inputs: tuple[ManifestRef, ...] = (),
    ) -> ManifestDraft:
        """Return the result with its files and the manifests it was made from, to be committed."""
        facts = self.facts()
        return ManifestDraft(kind=self.kind, files=files or {}, inputs=inputs, metadata=facts)

    @classmethod
    def num_units(cls, manifest: Manifest) -> int:
        """Return how many units of work a manifest of this kind took."""
        pictures = len(manifest.under("images/"))
        return (getattr(cls.of(manifest), cls.counted) or 0) if cls.counted else pictures

    def worth_showing(self) -> dict[str, JsonValue]:
        """Return the facts that are worth showing to people and were given."""
        return {name: fact for name, fact in self.facts().items() if name in self.shown}


class Report(Result):
    """The report of a run."""

    kind = "report"
    status: RunStatus
    run_id: str = ""


class Images(Result):
    """One shard of the pictures that prompts ask for."""

    kind = "images"
    counted = "num_images"
    shown = ("num_images", "shard")
    model: str = ""
    num_images: int = 0
    shard: int = 0
    num_shards: int = 1


class Promotion(Result):
    """What the gate decided about a model, with all of its reasons."""

    kind = "promotion"
    writes_defaults = True
    verdict: str
    rules: tuple[RuleResult, ...] = ()
    model: str = ""
    model_name: str = ""
    champion_before: str = ""

    @property
    def promoted(self) -> bool:
        """Whether the gate let the model through."""
        return self.verdict == PROMOTED

    @property
    def reason(self) -> str:
        """All rules in words."""
        return " ".join(rule.text for rule in self.rules)


class Decision(Result):
    """Whether to train, with the result of every trigger."""

    kind = "decision"
    writes_defaults = True
    decision: Literal["train", "skip"]
    model_name: str = ""
    dataset: str = Field(default="", description="Content digest of the pictures looked at.")
    triggers: tuple[Trigger, ...] = ()


class Choice(Result):
    """The version of a registered model that a run serves."""

    kind = "choice"
    model: str
    model_name: str
    version: int
    selector: str


class Leaderboard(Result):
    """The trials of a sweep, the best first."""

    kind = "leaderboard"
    model_name: str = ""
    best: TrialRow
    trials: tuple[TrialRow, ...] = ()


class Evaluation(Result):
    """How a model compares with the base model and the champion.

    Attributes:
        metrics: scores by model and metric.
        gains: gains of the fine-tuned model by the other model and metric.
        real: scores of the subject's own pictures among themselves.
        champion: reference of the champion it was compared with; empty: there was none.
    """

    kind = "evaluation"
    metrics: dict[str, Scores] = Field(default_factory=dict)
    gains: dict[str, Scores] = Field(default_factory=dict)
    real: Scores = Field(default_factory=dict)
    copies: CopySigns = CopySigns()
    prompts: tuple[str, ...] = ()
    prompt_set: str = ""
    images_per_prompt: int = 0
    champion: str = ""
    div_distance: str = ""
    not_judged: str = ""  # why its scores mean nothing
    confusion: Confusion | None = None
    parts: tuple[SubjectPart, ...] = ()  # of several subjects: their own, the first inputs

    def scores(self, of: str = FINE_TUNED) -> dict[str, Score]:
        """Return the finite scores of a model, or of the real pictures, known metrics first."""
        return finite(self.real if of == REAL else self.metrics.get(of, {}))

    def gained(self, over: str = BASE) -> dict[str, Score]:
        """Return the finite gains of the fine-tuned model over another."""
        return finite(self.gains.get(over, {}))

    def means(self, of: str = FINE_TUNED) -> dict[str, float]:
        """Return the finite mean scores of a model by metric, known metrics first."""
        return {name: score.mean for name, score in self.scores(of).items()}

    def figures(self) -> Iterator[tuple[Literal["metrics", "gains"], str, str, float]]:
        """Yield every finite mean as (section, model, metric, value)."""
        for model in self.metrics:
            for metric, score in self.scores(model).items():
                yield "metrics", model, metric, score.mean
        for model in self.gains:
            for metric, score in self.gained(model).items():
                yield "gains", model, metric, score.mean

    def written(self) -> Iterator[tuple[str, float | None]]:
        """Yield every number of a score as it was written, by its dotted name, finite or not."""
        for section, models in (("metrics", self.metrics), ("gains", self.gains)):
            for model, scores in models.items():
                for metric, score in scores.items():
                    name = f"{section}.{model}.{metric}"
                    parts = score.model_dump(exclude_unset=True) if score else {"": None}
                    for part, value in parts.items():
                        yield f"{name}.{part}" if len(parts) > 1 else name, value


class Model(Result):
    """A published model."""

    kind = "model"
    shown = ("model_name", "identifier", "class_noun", "method")
    model_name: str = ""
    identifier: str = ""
    class_noun: str = ""
    base_model: ModelBase = ModelBase()
    method: str = ""
    state: str = Field(default="", description="Content digest of the exported state.")
    single_file: bool = False
    lora: dict[str, JsonValue] | None = None
    subjects: tuple[SubjectWords, ...] = Field(
        default=(), description="Of several, in the place of identifier and class noun."
    )

    @property
    def phrases(self) -> tuple[str, ...]:
        """Identifier and class noun of each subject, as they stand in prompts."""
        several = tuple(f"{words.identifier} {words.class_noun}" for words in self.subjects)
        return several or (f"{self.identifier} {self.class_noun}".strip(),)

    def words(self, subject: str, class_noun: str) -> SubjectWords:
        """Return what a subject is called in prompts; what the model does not say is empty.

        Args:
            subject: name of one of several; empty: the run has one.
            class_noun: of its class, by which a model with other names is asked.
        """
        own = SubjectWords(name="", identifier=self.identifier, class_noun=self.class_noun)
        if not self.subjects and not subject:
            return own
        known = self.subjects or (own,)
        alike = [words for words in known if words.class_noun == class_noun]
        named = [words for words in known if words.name == subject and subject]
        return next(
            iter((*named, *alike)), SubjectWords(name=subject, identifier="", class_noun="")
        )


class Training(Result):
    """A finished training."""

    kind = "training"
    counted = "num_steps"
    shown = ("num_steps", "world_size", "num_parameters_trained")
    final_state: str = Field(default="", description="Content digest of the chosen state.")
    num_steps: int | None = None
    world_size: int | None = None
    base_model_digest: str = ""
    num_parameters_trained: int | None = None
    pass_size: int | None = Field(default=None, description="Pictures a pass, if fewer fitted.")
    chosen_step: int | None = Field(default=None, description="By the validation's score.")
    last_step: int | None = None


class TrainingState(Result):
    """A state from which a training resumes; a method may add facts of its own."""

    model_config = ConfigDict(frozen=True, extra="allow")
    kind = "training_state"
    step: int = 0
    lora: dict[str, JsonValue] | None = None


class Prior(Result):
    """One shard of the class pictures."""

    kind = "prior"
    counted = "num_images"
    shown = ("num_images", "class_noun")
    series: str = Field(default="", description="Digest of all they depend on; empty: no prior.")
    num_images: int = 0
    class_noun: str = ""
    base_model_digest: str = ""
    parts: tuple[SubjectPart, ...] = ()  # of several subjects: their own, the first inputs


class Dataset(Result):
    """The subject's pictures, checked and normalised."""

    kind = "dataset"
    shown = ("num_images", "num_quarantined", "resolution_px")
    num_images: int = 0
    num_class_images: int = 0
    num_quarantined: int = 0
    num_warnings: int = 0
    resolution_px: int = 0
    identifier: str = ""
    class_noun: str = ""
    parts: tuple[SubjectPart, ...] = ()  # of several subjects: their own, the first inputs


class EvaluationShard(Result):
    """One shard of the pictures that the evaluation compares."""

    kind = "evaluation_shard"
    counted = "num_images"
    shard: int = 0
    num_shards: int = 1
    num_images: int = 0
    parts: tuple[SubjectPart, ...] = ()  # of several subjects: their own, the first inputs


class EvaluationImages(Result):
    """A set of pictures that one model makes for the evaluation."""

    kind = "evaluation_images"
    model_digest: str = ""
    num_images: int = 0
    shots: tuple[dict[str, JsonValue], ...] = ()
    sampling: dict[str, JsonValue] = Field(default_factory=dict)
    resolution_px: int = 0


class EvaluationPart(Result):
    """Pictures of a set that were sampled together."""

    kind = "evaluation_images_part"
    set: str = Field(default="", description="Digest that names the set.")
    part: int = 0
    num_images: int = 0


class PriorChunk(Result):
    """Class pictures that were sampled together."""

    kind = "prior_chunk"
    series: str = ""
    first: int = 0
    num_images: int = 0


class Base(Result):
    """A base model, or an encoder (without a family), in the store; the source as it was named."""

    kind = "base"
    digest: str = ""
    family: str = ""
    source: str = ""
    license: str = ""


class ImagesPart(Result):
    """Pictures of a batch as they are made."""

    kind = "images_part"
    num_images: int = 0


class TrainingOutput(Result):
    """What the nodes of a training send back."""

    kind = "training_result"


class TrainingFiles(Result):
    """What the nodes of a training are sent."""

    kind = "training_job"


KINDS: Final = tuple(Result.__subclasses__())
"""Every kind of manifest, from the results of a run back to what it was made from, then parts."""


class _Gathered(Facts):
    parts: tuple[SubjectPart, ...] = ()


def parts_in(manifest: Manifest) -> dict[str, ManifestRef]:
    """Return what a result of several subjects holds of each, by name; empty: it is of one."""
    parts = _Gathered.model_validate(manifest.metadata).parts
    refs = manifest.inputs[: len(parts)]
    return {part.subject: ManifestRef.parse(ref) for part, ref in zip(parts, refs, strict=True)}
