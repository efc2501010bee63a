"""Puts the scores and the verdict of a run on its version in MLflow."""

import logging
from collections.abc import Mapping
from typing import Final, TypeVar

from boothline.errors import DataError, ServiceError, TrackingError
from boothline.registry import mirror, mlmodel
from boothline.registry.versions import ModelVersion, find
from boothline.results import Dataset, Evaluation, Model, Promotion, Result
from boothline.runs import StepRecord, read_steps
from boothline.settings import Settings
from boothline.store import ManifestRef, Store
from boothline.tracking.client import Answer, Client, point
from boothline.tracking.identity import recorded
from boothline.tracking.reconciling import DATASETS, dataset_digest, headline_metrics

logger = logging.getLogger(__name__)

PUBLISHING: Final = "publish_checkpoint"
_OF_MODEL: Final = "models:/"

ResultT = TypeVar("ResultT", bound=Result)


def describe_version(settings: Settings, store: Store, run_id: str) -> None:
    """Tag the version that a run made with its scores and verdict, and say them on its page.

    The scores are on its model in MLflow, too, linked to the run and to the subject's pictures. A
    tracking server that does not answer is logged: a later call makes up for it.
    """
    done = {record.step: record for record in read_steps(store, run_id) if record.status == "done"}
    evaluation = _result(store, done.get("evaluate"), Evaluation)
    promotion = _result(store, done.get("promote"), Promotion)
    # A sweep judges the version of its best trial.
    judged = promotion.model if promotion and promotion.model else _manifest(done, PUBLISHING)
    version = _version(store, judged) if judged and settings.mlflow_uri else None
    tags = mlmodel.judged_tags(evaluation, promotion)
    if version is None or not tags:
        return
    try:
        client = Client(settings.mlflow_uri)
        shown = mirror.look_up(client, version)
        if shown is None:
            return
        rules = [rule.text for rule in promotion.rules] if promotion else []
        mirror.describe(client, version, shown, tags=tags, rules=rules)
        run = recorded(store, run_id)
        if run and evaluation:
            pictures = _pictures(store, done)
            time_ms = int((done["evaluate"].started_at + done["evaluate"].seconds) * 1000)
            if model_id := _model_id(shown):
                about = {**pictures, "model_id": model_id, "run_id": run.mlflow_run_id}
                scores = headline_metrics(evaluation).items()
                points = [point(name, mean, time_ms, about=about) for name, mean in scores]
                client.log_batch(run.mlflow_run_id, metrics=points)
    except TrackingError as error:
        logger.warning("MLflow does not show how %s was judged: %s", version.name, error)


def _pictures(store: Store, done: Mapping[str, StepRecord]) -> dict[str, str]:
    """Return the pictures that scores were compared with, as points of metrics name them."""
    if _result(store, done.get("validate_data"), Dataset) is None:
        return {}
    digest = dataset_digest(store, _manifest(done, "validate_data"))
    return {"dataset_name": DATASETS[Dataset], "dataset_digest": digest}


def _model_id(shown: Answer) -> str:
    """Return MLflow's model of a version; empty: the server, from before MLflow 3, has none."""
    source = str(shown.get("source", ""))
    return source.removeprefix(_OF_MODEL) if source.startswith(_OF_MODEL) else ""


def _version(store: Store, manifest: str) -> ModelVersion | None:
    """Return the registered version of a model's manifest, if it is one and can be read."""
    model = _read(store, manifest, Model)
    return find(store, model.model_name, ManifestRef.parse(manifest)) if model else None


def _manifest(done: Mapping[str, StepRecord], step: str) -> str:
    """Return the manifest of a finished step; empty without one."""
    return done[step].manifest or "" if step in done else ""


def _result(store: Store, record: StepRecord | None, kind: type[ResultT]) -> ResultT | None:
    """Return a step's result; None without one, or when it cannot be read."""
    return _read(store, record.manifest, kind) if record and record.manifest else None


def _read(store: Store, manifest: str, kind: type[ResultT]) -> ResultT | None:
    """Return what a manifest says; None when it cannot be read."""
    try:
        return store.read_as(kind, manifest)
    except (DataError, ServiceError) as error:
        logger.warning("MLflow does not show %s: %s", manifest, error)
        return None
