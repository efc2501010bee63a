"""`TrainJobSettings`: where and how large the TrainJobs of a deployment are."""

from typing import Self

from pydantic import Field, ValidationError

from boothline.config.section import Section
from boothline.errors import ConfigError

NAME = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"


class TrainJobSettings(Section):
    """How a training over several nodes is started; the chart's TrainingRuntime has the rest."""

    namespace: str = Field(pattern=NAME, description="Namespace of the TrainJob.")
    runtime: str = Field(pattern=NAME, description="Name of the TrainingRuntime.")
    num_nodes: int = Field(default=1, ge=1, le=1024, description="Pods of one training.")
    processes_per_node: int = Field(default=1, ge=1, le=64, description="Ranks in each pod.")
    image: str = Field(default="", description="Image of the pods; empty: the runtime's.")
    resources: dict[str, object] = Field(
        default_factory=dict, description="requests and limits of each pod; empty: the runtime's."
    )
    queue: str = Field(default="", description="Kueue queue; empty: none.")
    priority_class: str = Field(default="", description="Kueue workload priority class.")
    deadline_seconds: int = Field(
        default=86400, ge=60, description="Seconds after which the training is given up."
    )

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return self.num_nodes * self.processes_per_node

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what a step's environment says.

        Raises:
            ConfigError: it is something else.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ConfigError(
                f"BOOTHLINE_TRAIN_JOB does not describe a TrainJob: {error.errors()[0]['msg']}.",
                remedy="It is written by boothline compile; compile the pipeline again.",
            ) from error
