"""Puts the scores and the verdict of a run on its version in MLflow."""

import logging
from typing import TypeVar

from boothline.errors import DataError, ServiceError, TrackingError
from boothline.registry import mirror, mlmodel
from boothline.registry.versions import find
from boothline.results import Evaluation, Model, Promotion, Result
from boothline.runs import read_steps
from boothline.settings import Settings
from boothline.store import ManifestRef, Store
from boothline.tracking.client import reach

logger = logging.getLogger(__name__)

ResultT = TypeVar("ResultT", bound=Result)


def describe_version(settings: Settings, store: Store, run_id: str) -> None:
    """Tag the version that a run made with its scores and verdict, and say them on its page.

    A tracking server that does not answer is logged: a later call makes up for it.
    """
    done = {
        record.step: record.manifest
        for record in read_steps(store, run_id)
        if record.status == "done"
    }
    promotion = _result(store, done.get("promote"), Promotion)
    # A sweep judges the version of its best trial.
    judged = promotion.model if promotion and promotion.model else done.get("publish_checkpoint")
    model = _result(store, judged, Model)
    if judged is None or model is None or not settings.mlflow_uri:
        return
    version = find(store, model.model_name, ManifestRef.parse(judged))
    tags = mlmodel.judged_tags(_result(store, done.get("evaluate"), Evaluation), promotion)
    if version is None or not tags:
        return
    try:
        client = reach(settings.mlflow_uri)
        number = mirror.find(client, version)
        if number is not None:
            rules = [rule.text for rule in promotion.rules] if promotion else []
            mirror.describe(client, version, number, tags=tags, rules=rules)
    except TrackingError as error:
        logger.warning("MLflow does not show how %s was judged: %s", version.name, error)


def _result(store: Store, manifest: str | None, kind: type[ResultT]) -> ResultT | None:
    """Return a step's result; None without one, or when it cannot be read."""
    if not manifest:
        return None
    try:
        return store.read_as(kind, manifest)
    except (DataError, ServiceError) as error:
        logger.warning("MLflow does not show %s: %s", manifest, error)
        return None
