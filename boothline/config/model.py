"""`RunConfig`: every setting of a run; each section has a module of its own."""

import re
from typing import Self

from pydantic import Field, model_validator

from boothline.config.evaluation import EvaluationConfig
from boothline.config.inference import InferenceConfig
from boothline.config.notification import NotificationConfig
from boothline.config.prior import PriorConfig
from boothline.config.promotion import PromotionConfig
from boothline.config.retrain import RetrainConfig
from boothline.config.section import Section
from boothline.config.subject import SubjectConfig
from boothline.config.sweep import SweepConfig
from boothline.config.training import CheckpointConfig, TrainingConfig


class BaseModelConfig(Section):
    """The text-to-image model to start from."""

    source: str = Field(
        default="builtin:tiny-emoji-sd",
        min_length=1,
        description="builtin:<name>, a local diffusers folder, or <hub id>@<revision>.",
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


class RunConfig(Section):
    """Every setting of one run."""

    subject: SubjectConfig = Field(default=SubjectConfig(), description="What is learnt.")
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

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.prior.enabled and self.prior.num_shards > self.prior.num_images:
            raise ValueError(
                f"prior.num_shards ({self.prior.num_shards}) exceeds prior.num_images; "
                f"set prior.num_shards to {self.prior.num_images} or less"
            )
        return self
