"""Puts the scores of an evaluation on the model that MLflow has of a version."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict

from boothline.tracking.client import entities_of, translated

if TYPE_CHECKING:
    from boothline.tracking.client import Client


_OF_MODEL: Final = "models:/"


class Judged(BaseModel):
    """Scores, and where they come from.

    Attributes:
        mlflow_run_id: the run whose pictures were judged.
        scores: means by their names in MLflow.
        time_ms: when, in milliseconds since the epoch; the same scores are then one point.
        dataset: name and digest of the pictures that they were compared with; empty: not known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mlflow_run_id: str
    scores: Mapping[str, float]
    time_ms: int
    dataset: tuple[str, str] = ("", "")


def log_scores(client: "Client", name: str, number: int, judged: Judged) -> None:
    """Log scores to the model of a version, linked to its run and to the pictures.

    Args:
        client: of the tracking server.
        name: the registered model.
        number: of the version, as MLflow counts.
        judged: the scores.

    Raises:
        TrackingError: MLflow is unreachable.
    """
    entities = entities_of(client)
    with translated(f"log the scores of version {number} of {name}"):
        source = client.get_model_version(name, str(number)).source
        if not source.startswith(_OF_MODEL) or not judged.scores:
            return  # a server before MLflow 3 has no such models
        model_id = source.removeprefix(_OF_MODEL)
        dataset, digest = judged.dataset
        metrics = [
            entities.Metric(
                key,
                value,
                judged.time_ms,
                0,
                model_id=model_id,
                dataset_name=dataset or None,
                dataset_digest=digest or None,
                run_id=judged.mlflow_run_id,
            )
            for key, value in judged.scores.items()
        ]
        client.log_batch(judged.mlflow_run_id, metrics=metrics)
