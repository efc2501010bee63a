"""Opening the tracker of a step, without loading MLflow."""

from boothline.settings import Settings
from boothline.store import Store
from boothline.tracking.base import NullTracker, StepTracker
from boothline.tracking.client import connect
from boothline.tracking.delivery import Delivery
from boothline.tracking.identity import Mirror
from boothline.tracking.spool import Spool, spool_folder
from boothline.tracking.tracker import SpoolTracker

# Steps that look after the run itself: they have no MLflow run of their own.
UNTRACKED_STEPS = frozenset({"finish_run"})


def open_step_tracker(
    settings: Settings, *, store: Store, run_id: str, step: str, experiment: str = "boothline"
) -> StepTracker:
    """Return the tracker of a step; nothing is loaded or sent before the first value.

    Args:
        settings: tells the tracking server and the local folders; without a server nothing is
            tracked.
        store: remembers which MLflow run belongs to the step.
        run_id: the pipeline run.
        step: name of the step; all its shards share one MLflow run.
        experiment: name of the MLflow experiment (`tracking.experiment` of the configuration).
    """
    if not settings.mlflow_uri or step in UNTRACKED_STEPS:
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
    )
