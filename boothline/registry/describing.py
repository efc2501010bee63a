"""Puts the scores and the verdict of a run on its version in MLflow."""

import logging
from collections.abc import Mapping
from typing import Final, TypeVar

from boothline.errors import DataError, ServiceError, TrackingError
from boothline.registry import mirror, mlmodel
from boothline.registry.scoring import Judged, log_scores
from boothline.registry.versions import ModelVersion, find
from boothline.results import Dataset, Evaluation, Model, Promotion, Result
from boothline.runs import StepRecord, read_steps
from boothline.settings import Settings
from boothline.store import ManifestRef, Store
from boothline.tracking.client import reach
from boothline.tracking.identity import recorded
from boothline.tracking.reconciling import DATASETS, dataset_digest, headline_metrics

logger = logging.getLogger(__name__)

PUBLISHING: Final = "publish_checkpoint"

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
        client = reach(settings.mlflow_uri)
        number = mirror.find(client, version)
        if number is None:
            return
        rules = [rule.text for rule in promotion.rules] if promotion else []
        mirror.describe(client, version, number, tags=tags, rules=rules)
        run = recorded(store, run_id)
        if run and evaluation:
            scores = _judged(store, done, evaluation, mlflow_run_id=run.mlflow_run_id)
            log_scores(client, version.name, number, scores)
    except TrackingError as error:
        logger.warning("MLflow does not show how %s was judged: %s", version.name, error)


def _judged(
    store: Store, done: Mapping[str, StepRecord], evaluation: Evaluation, *, mlflow_run_id: str
) -> Judged:
    """Return the scores of a run's model, and the pictures that they were compared with."""
    record = done["evaluate"]
    dataset = _result(store, done.get("validate_data"), Dataset)
    pictures = _manifest(done, "validate_data") if dataset else ""
    return Judged(
        mlflow_run_id=mlflow_run_id,
        scores=headline_metrics(evaluation),
        time_ms=int((record.started_at + record.seconds) * 1000),
        dataset=(DATASETS[Dataset], dataset_digest(store, pictures)) if pictures else ("", ""),
    )


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
