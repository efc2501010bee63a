"""`RunConfig`: every setting of a run; large sections have a module of their own."""

import re
from typing import Literal, Self

from pydantic import Field, model_validator

from boothline.config.evaluation import EvaluationConfig
from boothline.config.promotion import PromotionConfig
from boothline.config.sampling import InferenceConfig, PriorConfig
from boothline.config.section import Section
from boothline.config.subject import UNNAMED, OneSubject, SubjectConfig
from boothline.config.sweep import SweepConfig
from boothline.config.training import CheckpointConfig, TrainingConfig

NotifiedStatus = Literal["done", "refused", "failed", "interrupted"]


class BaseModelConfig(Section):
    """The text-to-image model to start from."""

    source: str = Field(
        default="builtin:tiny-emoji-sd",
        min_length=1,
        description="builtin:<name>, base:<name>, a folder of diffusers, or <hub id>@<revision>.",
    )
    allow_hub: bool = Field(default=False, description="Allow downloads from the model hub.")


class TrackingConfig(Section):
    """Where metrics go."""

    experiment: str = Field(
        default="boothline", pattern=r"^[\w .-]{1,100}$", description="MLflow experiment."
    )
    tensorboard: bool = Field(
        default=False,
        description="Write metrics and sample sheets as TensorBoard event files too, in the folder "
        "tensorboard of the run (needs the extra tensorboard).",
    )
    wandb: bool = Field(
        default=False,
        description="Write metrics and sample sheets as offline runs of Weights & Biases too, in "
        "the folder wandb of the run (needs the extra wandb); nothing is sent.",
    )


class NotificationConfig(Section):
    """When a webhook is notified of the end of a run; the URL is BOOTHLINE_NOTIFY_WEBHOOK_URL."""

    statuses: tuple[NotifiedStatus, ...] = Field(
        default=("done", "refused", "failed", "interrupted"),
        description="Final statuses that are sent: done, refused (by the gate), failed and "
        "interrupted. A webhook that does not answer never fails a run.",
    )
    log_lines: int = Field(
        default=15, ge=0, le=100, description="Last log lines of a failed step in the message."
    )


class RetrainConfig(Section):
    """What makes `boothline retrain` train again; other commands ignore it."""

    on_new_data: bool = Field(
        default=True,
        description="Train when no registered version of the model was trained on these pictures "
        "(by digest, so that a renamed or re-saved equal picture set is not new).",
    )
    max_champion_age_days: float | None = Field(
        default=None,
        gt=0,
        le=36_500,
        description="Train when the champion became it longer ago than this, once in each such "
        "period; unset: never for age.",
    )
    min_champion_score: float | None = Field(
        default=None,
        ge=-1,
        le=1,
        description="Train when the score of the champion's evaluation is below this, at most "
        "once per evaluation; unset: never for the score.",
    )


class RunConfig(Section):
    """Every setting of one run."""

    subject: SubjectConfig = Field(default=SubjectConfig(), description="What is learnt.")
    subjects: tuple[OneSubject, ...] = Field(
        default=(),
        max_length=16,
        description="Several subjects in one model, each with name, images, identifier and "
        "class_noun; all other settings of subject hold for each, and subject.name names the "
        "model. None: the one of subject.",
    )
    base_model: BaseModelConfig = Field(default=BaseModelConfig(), description="Where it starts.")
    prior: PriorConfig = Field(default=PriorConfig(), description="Class prior.")
    training: TrainingConfig = Field(default=TrainingConfig(), description="Fine-tuning.")
    checkpoints: CheckpointConfig = Field(
        default=CheckpointConfig(), description="Training states."
    )
    evaluation: EvaluationConfig = Field(default=EvaluationConfig(), description="Judgement.")
    promotion: PromotionConfig = Field(default=PromotionConfig(), description="The gate.")
    inference: InferenceConfig = Field(default=InferenceConfig(), description="Serving.")
    tracking: TrackingConfig = Field(default=TrackingConfig(), description="Tracking.")
    notification: NotificationConfig = Field(
        default=NotificationConfig(),
        description="Messages on a run's end, to the URL in BOOTHLINE_NOTIFY_WEBHOOK_URL.",
    )
    sweep: SweepConfig = Field(
        default=SweepConfig(), description="What `boothline sweep` tries; ignored elsewhere."
    )
    retrain: RetrainConfig = Field(
        default=RetrainConfig(), description="What makes `boothline retrain` train."
    )

    @property
    def model_name(self) -> str:
        """Name of the registered model: one per subject."""
        return f"boothline-{re.sub(r'[^a-z0-9-]', '-', self.subject.name)}"

    @property
    def by_subject(self) -> dict[str, "RunConfig"]:
        """What holds for each subject, by name; of one subject all of it, without a name.

        What holds for one of several is the configuration of a run of that subject alone, under
        the name of the common model.
        """
        if not self.subjects:
            return {"": self}
        return {
            one.name: self.model_copy(
                update={
                    "subject": self.subject.model_copy(update=one.model_dump(exclude={"name"})),
                    "subjects": (),
                }
            )
            for one in self.subjects
        }

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.subjects:
            self._check_subjects()
        if self.prior.enabled and self.prior.num_shards > self.prior.num_images:
            raise ValueError(
                f"prior.num_shards ({self.prior.num_shards}) exceeds prior.num_images; "
                f"set prior.num_shards to {self.prior.num_images} or less"
            )
        return self

    def _check_subjects(self) -> None:
        """Refuse several subjects that are not several, or have the same name."""
        if len(self.subjects) == 1:
            raise ValueError("subjects names one subject alone; describe it by subject")
        for key in ("name", "identifier"):
            values = [getattr(one, key) for one in self.subjects]
            if twice := [value for value in values if values.count(value) > 1]:
                raise ValueError(
                    f"subjects: two have the {key} {twice[0]!r}; give each its own {key}"
                )
        if self.subject.name == UNNAMED:
            raise ValueError("subject.name must name the model of several subjects, e.g. my-toys")
        if self.subject.aspect_buckets:
            raise ValueError(
                "subject.aspect_buckets does not go with several subjects, whose pictures take "
                "turns in every batch; leave the buckets out, or train a model for each"
            )
