"""What is sent to MLflow and comes from it, by the names and fields of MLflow's own classes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Param:
    """A parameter."""

    key: str
    value: str


@dataclass(frozen=True)
class RunTag:
    """A tag of a run."""

    key: str
    value: str


@dataclass(frozen=True)
class Metric:
    """A number at a training step; the time is in milliseconds since the epoch.

    A score of a model names the model, the dataset it was measured with, and the run.
    """

    key: str
    value: float
    timestamp: int
    step: int
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None
    run_id: str | None = None


@dataclass(frozen=True)
class InputTag:
    """A tag of a dataset among a run's inputs."""

    key: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset."""

    name: str
    digest: str
    source_type: str
    source: str
    profile: str


@dataclass(frozen=True)
class DatasetInput:
    """A dataset among a run's inputs."""

    dataset: Dataset
    tags: Sequence[InputTag]


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What a run is."""

    run_id: str
    experiment_id: str
    status: str
    lifecycle_stage: str
    artifact_uri: str


@dataclass(frozen=True, kw_only=True)
class RunData:
    """What was logged to a run: parameters, last values of metrics, tags."""

    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run."""

    info: RunInfo
    data: RunData

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> "Run":
        """Return the run that an answer describes."""
        info, data = answer["info"], answer.get("data", {})
        return cls(
            info=RunInfo(
                run_id=info["run_id"],
                experiment_id=info["experiment_id"],
                status=info["status"],
                lifecycle_stage=info["lifecycle_stage"],
                artifact_uri=info["artifact_uri"],
            ),
            data=RunData(
                params=_by_key(data.get("params", ())),
                metrics=_by_key(data.get("metrics", ())),
                tags=_by_key(data.get("tags", ())),
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """An experiment."""

    experiment_id: str
    lifecycle_stage: str


@dataclass(frozen=True, kw_only=True)
class FileInfo:
    """A file or folder among a run's artifacts."""

    path: str
    is_dir: bool
    file_size: int | None = None


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """A version of a registered model."""

    name: str
    version: str
    tags: Mapping[str, str]
    source: str

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> "ModelVersion":
        """Return the version that an answer describes."""
        tags = _by_key(found.get("tags", ()))
        return cls(
            name=found["name"],
            version=str(found["version"]),
            tags=tags,
            source=found.get("source", ""),
        )


@dataclass(frozen=True, kw_only=True)
class RegisteredModel:
    """A registered model: its versions by alias."""

    name: str
    aliases: Mapping[str, str]


def _by_key(items: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {item["key"]: item.get("value", "") for item in items}
