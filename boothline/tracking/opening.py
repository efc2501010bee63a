"""Opening the tracker of a step, without loading MLflow, and the MLflow run of a pipeline run."""

import logging
from collections.abc import Iterable

from boothline.catalogue import ends_run
from boothline.config import RunConfig
from boothline.errors import TrackingError
from boothline.metering import read_gauges
from boothline.settings import Settings
from boothline.store import Store
from boothline.tracking.base import Sink, StepTracker, Values, dotted
from boothline.tracking.delivery import Delivery, LiveRun
from boothline.tracking.identity import MlflowRuns

logger = logging.getLogger(__name__)

TENSORBOARD_FOLDER = "tensorboard"


def open_step_tracker(
    settings: Settings,
    *,
    store: Store,
    run_id: str,
    step: str,
    experiment: str = "boothline",
    tensorboard: bool = False,
    wandb: bool = False,
    further: Iterable[Sink] = (),
) -> StepTracker:
    """Return the tracker of a step; nothing is loaded or sent before the first value.

    Args:
        settings: says where the tracking server and the local folders are; without a server
            nothing goes to MLflow.
        store: remembers which MLflow run belongs to the step.
        run_id: the pipeline run.
        step: name of the step; all its shards share one MLflow run.
        experiment: name of the MLflow experiment (`tracking.experiment` of the configuration).
        tensorboard: write TensorBoard event files, under the run's folder.
        wandb: write an offline run of Weights & Biases, under the run's folder.
        further: sinks that get every value, too.

    Raises:
        ConfigError: the library of one of them is missing.
    """
    if ends_run(step):  # it has no MLflow run of its own
        return StepTracker()
    sinks = list(further)
    folder = settings.run_dir or settings.home / "runs" / run_id

    def reached() -> Delivery:
        runs = MlflowRuns.connect(settings, store, run_id, experiment=experiment)
        delivery = Delivery(runs.client, runs.run(step).mlflow_run_id)
        delivery.start()
        return delivery

    if settings.mlflow_uri:
        sinks.append(LiveRun(reached, gauges=read_gauges))
    if tensorboard:
        from boothline.tracking.boards import Board

        sinks.append(Board(folder / TENSORBOARD_FOLDER / step))
    if wandb:
        from boothline.tracking.boards import OfflineRun

        sinks.append(OfflineRun(folder, project=experiment, group=run_id, step=step))
    return StepTracker(*sinks)


def start_parent(settings: Settings, store: Store, run_id: str, config: RunConfig) -> str:
    """Make the MLflow run of a pipeline run, with the configuration as its parameters.

    May be called again for the same run (a resume): the run is the same and counts as running
    again. With a dead server it gives up within some ten seconds, and `reconcile` makes up for it.

    Returns:
        The id of the MLflow run; empty when there is no tracking server or it does not answer.
    """
    if not settings.mlflow_uri:
        return ""
    try:
        runs = MlflowRuns.connect(settings, store, run_id, experiment=config.tracking.experiment)
        parent = runs.run(verify=True)
        delivery = Delivery(runs.client, parent.mlflow_run_id)
        delivery.start()
        plain = config.model_dump(mode="json")
        tags = runs.tags_of(parent, plain)
        delivery.send([Values(time_ms=0, params=dotted(plain), tags=tags)])
    except TrackingError as error:
        logger.warning("the run starts without MLflow, which hears of it at its end: %s", error)
        return ""
    return parent.mlflow_run_id
