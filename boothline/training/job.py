"""`TrainingJob`: all that the ranks of one training need, as one JSON file without secrets."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from boothline.config import RunConfig
from boothline.config.subject import SubjectConfig
from boothline.config.training import TrainingConfig
from boothline.errors import ConfigError
from boothline.store.manifest import digest_of


def ensure_some_left(*, hold_out: int, num_pictures: int) -> None:
    """Check that a training has pictures left.

    Args:
        hold_out: `training.validation.hold_out`.
        num_pictures: instance pictures, each as often as it stands in an epoch.

    Raises:
        ConfigError: it has none.
    """
    if num_pictures <= hold_out:
        raise ConfigError(
            f"training.validation.hold_out ({hold_out}) leaves none of {num_pictures} instance "
            "pictures to train on.",
            remedy="Hold out fewer pictures, or add some.",
        )


JOB_FILE = "job.json"
EVENTS_FILE = "events.jsonl"
RESULT_FILE = "result.json"
INPUTS_FILE = "inputs.png"
PROCESS_FILE = "process-{rank}"
CURVE_FILE = "curve.jsonl"
VALIDATION_FILE = "validation.jsonl"
SAMPLES_FOLDER = "samples"
# They count only where they are used, so that results from before they existed keep their keys.
_LATER_SETTINGS = (
    "scale_learning_rate",
    "huber_delta",
    "repeats",
    "random_crops",
    "crop_scale",
    "interpolation",
    "caption_templates",
    "caption_dropout",
    "compile",
    "deterministic",
    "timestep_density",
    "token_embedding",
    "frozen_precision",
    "shard_frozen",
)


class SubjectFolders(BaseModel):
    """The pictures of one subject.

    Attributes:
        instance: folder with the instance images and their captions.jsonl.
        priors: folders with the class images and their captions.jsonl; empty without prior.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    instance: Path
    priors: tuple[Path, ...] = ()


class TrainingJob(BaseModel):
    """What to train, from what, and where its files go.

    Attributes:
        config: the run's configuration.
        world_size: number of ranks.
        base_model: folder of the base model.
        base_model_digest: digest of the base model's bytes.
        pictures: of each subject, in the order of the configuration.
        data_digest: digest of the content of all pictures and captions.
        states: path in the store under which training states are committed.
        folder: scratch folder that all ranks of a node see.
        dino_model: folder of the encoder of subject fidelity; only with validation.
        clip_model: folder of the encoder of prompt fidelity; only with validation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: RunConfig
    world_size: int = Field(ge=1)
    base_model: Path
    base_model_digest: str
    pictures: tuple[SubjectFolders, ...] = Field(min_length=1)
    data_digest: str
    states: str
    folder: Path
    dino_model: Path | None = None
    clip_model: Path | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        training = self.config.training
        parts = self.world_size * training.accumulation
        if training.batch_size % parts:
            raise ConfigError(
                f"training.batch_size ({training.batch_size}) is not a multiple of "
                f"ranks x training.accumulation ({self.world_size} x {training.accumulation}).",
                remedy=f"Set training.batch_size to a multiple of {parts}, or change the ranks.",
            )
        return self

    @property
    def micro_batch_size(self) -> int:
        """Instance pictures in one micro-batch of one rank."""
        training = self.config.training
        return training.batch_size // (self.world_size * training.accumulation)

    @property
    def has_prior(self) -> bool:
        """Whether each micro-batch has a prior half."""
        prior = self.config.prior
        has_pictures = any(folders.priors for folders in self.pictures)
        return prior.enabled and prior.weight > 0 and has_pictures

    @property
    def subjects(self) -> tuple[SubjectConfig, ...]:
        """Each subject, in the order of its pictures."""
        return tuple(config.subject for config in self.config.by_subject.values())

    @property
    def identity(self) -> dict[str, str]:
        """What a training state must agree with to be resumed: digests by name."""
        training = self.config.training
        return self.identity_as(
            world_size=self.world_size,
            accumulation=training.accumulation,
            shard_frozen=training.shard_frozen,
        )

    def identity_as(
        self, *, world_size: int, accumulation: int, shard_frozen: bool
    ) -> dict[str, str]:
        """Return the identity that this job would have with its work cut differently.

        Draws depend on the place in the global batch alone, so that a training may continue with
        the batch cut into other parts, and states hold what is trained whole, so that the frozen
        weights may be cut or not; the result then differs by rounding.

        Args:
            world_size: number of ranks.
            accumulation: micro-batches of each.
            shard_frozen: whether they share out the frozen weights.
        """
        cut = {"accumulation": accumulation, "shard_frozen": shard_frozen}
        training = self.config.training.model_copy(update=cut)
        config = self.config.model_copy(update={"training": training})
        return {
            "config": digest_of(result_config(config, world_size=world_size)),
            "data": self.data_digest,
            "base_model": self.base_model_digest,
        }

    def state_path(self, step: int) -> str:
        """Return the path in the store of the state after `step` optimizer steps."""
        return f"{self.states}/step-{step:06d}"

    def state_folder(self, step: int) -> Path:
        """Return the local folder into which a state is fetched."""
        return self.folder / "resumed" / f"step-{step:06d}"

    def save(self) -> Path:
        """Write the job into its folder and return the file."""
        path = self.folder / JOB_FILE
        path.write_text(self.model_dump_json(), encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a job written by `save`."""
        return cls.model_validate_json(path.read_text(encoding="utf-8"))


def words_of(config: RunConfig) -> dict[str, str]:
    """Return by identifier the word that its learnt row starts from; nothing where none is learnt.

    Args:
        config: the run's configuration.
    """
    settings = config.training.token_embedding
    if not settings.enabled:
        return {}
    subjects = [one.subject for one in config.by_subject.values()]
    return {one.identifier: settings.init_word or one.class_noun for one in subjects}


def result_config(config: RunConfig, *, world_size: int) -> dict[str, object]:
    """Return the part of a configuration that changes the trained weights, as JSON.

    The ranks are in it because they change the rounding. What only changes speed, memory or the
    sample sheets (diagnostics) is not.
    """
    training = config.training.model_dump(mode="json")
    for name in ("num_processes", "sample_every_steps", "sample_early", "caches"):
        training.pop(name)
    if config.training.method != "lora":
        training.pop("lora")
    neutral = TrainingConfig().model_dump(mode="json")
    for name in _LATER_SETTINGS:
        if training[name] == neutral[name]:
            training.pop(name)
    if words := words_of(config):
        training["token_embedding"] |= {"tokens": words}
    if config.training.validation.every_steps:
        training["judged_by"] = config.evaluation.model_dump(
            mode="json", include={"prompts", "sampling", "subject_weight"}
        )
    else:
        training.pop("validation")
    prior: dict[str, object] = {"enabled": config.prior.enabled}
    if config.prior.enabled:
        prior["weight"] = config.prior.weight
    return {
        "training": training,
        "world_size": world_size,
        "prior": prior,
        "resolution_px": config.subject.resolution_px,
        **({"aspect_buckets": list(buckets)} if (buckets := config.subject.aspect_buckets) else {}),
    }
