"""Opening the tracker of a step, without loading MLflow."""

from boothline.catalogue import ends_run
from boothline.settings import Settings
from boothline.store import Store
from boothline.tracking.base import NullTracker, StepTracker
from boothline.tracking.client import connect
from boothline.tracking.delivery import Delivery
from boothline.tracking.gauges import read_gauges
from boothline.tracking.identity import Mirror
from boothline.tracking.spool import Spool, spool_folder
from boothline.tracking.tracker import SpoolTracker

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
) -> StepTracker:
    """Return the tracker of a step; nothing is loaded or sent before the first value.

    Args:
        settings: tells the tracking server and the local folders; without a server nothing is
            tracked.
        store: remembers which MLflow run belongs to the step.
        run_id: the pipeline run.
        step: name of the step; all its shards share one MLflow run.
        experiment: name of the MLflow experiment (`tracking.experiment` of the configuration).
        tensorboard: write TensorBoard event files too, under the run's folder.
        wandb: write an offline run of Weights & Biases too, under the run's folder.

    Raises:
        ConfigError: the library of one of them is missing.
    """
    if ends_run(step):  # it has no MLflow run of its own
        return NullTracker()
    tracker = _mlflow_tracker(
        settings, store=store, run_id=run_id, step=step, experiment=experiment
    )
    folder = settings.run_dir or settings.home / "runs" / run_id
    if tensorboard:
        from boothline.tracking.boards import BoardTracker

        tracker = BoardTracker(tracker, folder=folder / TENSORBOARD_FOLDER / step)
    if wandb:
        from boothline.tracking.weights_biases import OfflineTracker

        tracker = OfflineTracker(
            tracker, folder=folder, project=experiment, group=run_id, step=step
        )
    return tracker


def _mlflow_tracker(
    settings: Settings, *, store: Store, run_id: str, step: str, experiment: str
) -> StepTracker:
    """Return the tracker that writes to MLflow, or one that drops everything without a server."""
    if not settings.mlflow_uri:
        return NullTracker()

    def reach() -> Delivery:
        client = connect(settings.mlflow_uri)
        mirror = Mirror(client=client, store=store, run_id=run_id, experiment=experiment)
        delivery = Delivery(client, mirror.step(step).mlflow_run_id)
        delivery.start()
        return delivery

    return SpoolTracker(
        Spool.new(spool_folder(settings, run_id), step),
        connect=reach,
        replayed=settings.run_dir is not None,
        gauges=read_gauges,
    )
