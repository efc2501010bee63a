"""The MLflow run of a pipeline run, made when the run starts."""

import logging
from collections.abc import Mapping

from boothline.config import RunConfig
from boothline.errors import TrackingError
from boothline.settings import Settings
from boothline.store import Store
from boothline.tracking.client import RejectedError, connect
from boothline.tracking.delivery import MAX_PARAM_CHARACTERS, Delivery, shortened, text_of
from boothline.tracking.identity import Mirror

logger = logging.getLogger(__name__)


def start_parent(settings: Settings, store: Store, run_id: str, config: RunConfig) -> str:
    """Make the MLflow run of a pipeline run, with the configuration as its parameters.

    May be called again for the same run (a resume): the run is the same and counts as running
    again. Loads MLflow (about 2 s); with a dead server it gives up within some ten seconds, and
    `reconcile` makes up for it.

    Returns:
        The id of the MLflow run; empty when there is no tracking server or it does not answer.
    """
    if not settings.mlflow_uri:
        return ""
    try:
        client = connect(settings.mlflow_uri)
        mirror = Mirror(
            client=client, store=store, run_id=run_id, experiment=config.tracking.experiment
        )
        parent = mirror.parent(verify=True)
        delivery = Delivery(client, parent.mlflow_run_id)
        delivery.start()
        log_config(delivery, config.model_dump(mode="json"))
    except TrackingError as error:
        logger.warning("the run starts without MLflow, which is told at its end: %s", error)
        return ""
    return parent.mlflow_run_id


def dotted(config: Mapping[str, object], *, prefix: str = "") -> dict[str, object]:
    """Return the values of a nested configuration by dotted name."""
    values: dict[str, object] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            values |= dotted(value, prefix=f"{prefix}{name}.")
        else:
            values[f"{prefix}{name}"] = value
    return values


def flattened(config: Mapping[str, object]) -> dict[str, str]:
    """Return a configuration as dotted names and texts that MLflow accepts as parameters."""
    return {
        name: shortened(text_of(value), MAX_PARAM_CHARACTERS)
        for name, value in dotted(config).items()
    }


def log_config(delivery: Delivery, config: Mapping[str, object]) -> None:
    """Log a configuration as parameters; MLflow keeps the first value of each for good.

    Raises:
        TrackingError: MLflow is unreachable.
    """
    from mlflow.entities import Param

    try:
        delivery.batch(params=[Param(name, value) for name, value in flattened(config).items()])
    except RejectedError as error:
        logger.warning("MLflow keeps the parameters it has: %s", error)
