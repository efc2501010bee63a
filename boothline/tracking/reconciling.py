"""Making MLflow show a run as the store's records have it, however the run went."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from typing import TypeVar

from boothline.catalogue import ends_run, steps
from boothline.config import RunConfig
from boothline.errors import DataError, ServiceError, TrackingError
from boothline.results import Dataset, Evaluation, Leaderboard, Model, Prior, Promotion, Result
from boothline.runs import RunRecord, RunStatus, StepRecord, read_run, read_steps
from boothline.settings import Settings
from boothline.store import Store
from boothline.tracking.base import CloseStatus, Logged, StepTracker, Values, dotted
from boothline.tracking.client import Item, listed
from boothline.tracking.delivery import Delivery
from boothline.tracking.identity import NOTE_TAG, PARENT_TAG, MlflowRun, MlflowRuns

logger = logging.getLogger(__name__)

ResultT = TypeVar("ResultT", bound=Result)
Show = Callable[[StepRecord, StepTracker], None]

END_STATUS: Mapping[RunStatus, CloseStatus] = {
    "done": "FINISHED",
    "refused": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}
CONTEXT_TAG = "mlflow.data.context"
DEFAULT_EXPERIMENT = "boothline"
DATASETS: Mapping[type[Dataset] | type[Prior], str] = {
    Dataset: "instance pictures",
    Prior: "class pictures",
}
"""Results that are pictures to train on, and what MLflow calls these."""
# Its server answers while the next sheet is drawn here.
_NUM_STEPS_AT_ONCE = 3
# MLflow takes 36 characters of digest.
_DIGEST_CHARACTERS = 32


def reconcile(
    settings: Settings,
    store: Store,
    run_id: str,
    *,
    status: RunStatus,
    show: Show = lambda record, tracker: None,
) -> bool:
    """Make MLflow list the run and its steps with all that the store knows of them.

    Idempotent: what MLflow has stays, what it lacks is sent (values that did not arrive while a
    step worked, whole nested runs of reused steps), runs of lost races are deleted, and every run
    is ended.

    Args:
        settings: says where the tracking server is.
        store: has the records of the run and its steps.
        run_id: the pipeline run.
        status: of the run; `running` leaves the parent running.
        show: logs what the result of a step shows.

    Returns:
        Whether MLflow mirrors the run now. Otherwise the reason is logged and a later call makes up
        for it.
    """
    if not settings.mlflow_uri:
        return False
    record = read_run(store, run_id)
    values = dotted(record.config) if record else {}
    experiment = str(values.get("tracking.experiment", DEFAULT_EXPERIMENT))
    try:
        runs = MlflowRuns.connect(settings, store, run_id, experiment=experiment)
        _Reconciliation(runs, record, show).carry_out(status)
    except TrackingError as error:
        logger.warning("MLflow does not mirror run %s yet: %s", run_id, error)
        return False
    return True


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


class _Reconciliation:
    """One call of `reconcile`."""

    def __init__(self, runs: MlflowRuns, record: RunRecord | None, show: Show) -> None:
        self._runs = runs
        self._record = record
        self._show = show
        found = sorted(read_steps(runs.store, runs.run_id), key=lambda record: record.step)
        self._steps = {
            name: list(shards)
            for name, shards in groupby(found, key=lambda record: record.step)
            if not ends_run(name)
        }
        self._shards = [shard for shards in self._steps.values() for shard in shards]

    def carry_out(self, status: RunStatus) -> None:
        """Bring MLflow up to date.

        Raises:
            TrackingError: MLflow is unreachable.
        """
        starts = [shard.started_at for shard in self._shards]
        started_at = self._record.created_at if self._record else min(starts, default=None)
        started_ms = None if started_at is None else int(started_at * 1000)
        parent = self._runs.run(started_ms=started_ms, verify=True)
        pool = ThreadPoolExecutor(_NUM_STEPS_AT_ONCE)
        try:
            settled = set(pool.map(partial(self._settle_step, parent), self._steps))
        finally:  # where MLflow is away, the others need not find it out, too
            pool.shutdown(cancel_futures=True)
        self._settle_parent(parent, status)
        self._runs.remove_strays({parent.mlflow_run_id, *settled})

    def _settle_step(self, parent: MlflowRun, step: str) -> str:
        """Send what the records of a step say and its results show; return its MLflow run."""
        shards = self._steps[step]
        started_ms = int(shards[0].started_at * 1000)
        run = self._runs.run(step, started_ms=started_ms, verify=True)
        logged = Logged()
        for shard in shards:
            tracker = StepTracker(logged, clock=partial(_end, shard))
            self._show(shard, tracker)
            suffix = "" if shard.shard is None else f".{shard.shard}"
            if shard.manifest:
                names = {"boothline.manifest", f"boothline.manifest{suffix}"}
                tracker.tags(dict.fromkeys(names, shard.manifest))
            if shard.failure:
                tracker.tags({"boothline.error": shard.failure.message})
            if shard.status == "done" and not shard.reused:
                tracker.metrics({"seconds": shard.seconds}, step=shard.shard or 0)
        tracker = StepTracker(logged)
        tracker.params(_common_config(shards))
        is_reused = all(shard.reused for shard in shards)
        tracker.tags({PARENT_TAG: parent.mlflow_run_id, "boothline.reused": str(is_reused).lower()})
        ended_ms = int(max(_end(shard) for shard in shards) * 1000)
        delivery = Delivery(self._runs.client, run.mlflow_run_id, is_empty=run.is_empty)
        delivery.send(logged)
        delivery.end(_status_of(shards), time_ms=ended_ms)
        return run.mlflow_run_id

    def _settle_parent(self, run: MlflowRun, status: RunStatus) -> None:
        """Put configuration, scores, verdict and status on the parent."""
        logged = Logged()
        tracker = StepTracker(logged)
        is_reused = all(shard.reused for shard in self._shards)
        tracker.tags({"boothline.status": status, "boothline.reused": str(is_reused).lower()})
        ends = [_end(shard) for shard in self._shards]
        if self._record is not None:
            tracker.params(dotted(self._record.config))
            tracker.tags(self._runs.tags_of(run, self._record.config))
            ends.append(self._record.created_at + self._record.seconds)
            if self._record.report:
                tracker.tags({"boothline.report": self._record.report})
        for record, promotion in self._results("promote", Promotion):
            rules = "\n".join(f"- {rule.text}" for rule in promotion.rules)
            tracker.tags({"boothline.verdict": promotion.verdict})
            tracker.tags({"boothline.promotion": record.manifest})
            tracker.tags({NOTE_TAG: f"**{promotion.verdict}**\n\n{rules}"})
        for record, model in self._results("publish_checkpoint", Model):
            tracker.tags({"boothline.model": record.manifest})
            tracker.tags({"boothline.model_name": model.model_name})
        for record, evaluation in self._results("evaluate", Evaluation):
            scored = StepTracker(logged, clock=partial(_end, record))
            scored.metrics(headline_metrics(evaluation))
        for record, leaderboard in self._results("compare_trials", Leaderboard):
            scored = StepTracker(logged, clock=partial(_end, record))
            for row in (row for row in leaderboard.trials if "score" in row.scores):
                scored.metrics({"sweep/score": row.scores["score"]}, step=row.trial)
        delivery = Delivery(self._runs.client, run.mlflow_run_id, is_empty=run.is_empty)
        delivery.send(logged)
        if datasets := list(self._datasets()):
            to = f"take the datasets of run {run.mlflow_run_id}"
            self._runs.client.post(
                "runs/log-inputs", to=to, run_id=run.mlflow_run_id, datasets=datasets
            )
        self._log_pages(run)
        if status in END_STATUS:
            delivery.end(END_STATUS[status], time_ms=int(max(ends, default=0.0) * 1000))

    def _log_pages(self, run: MlflowRun) -> None:
        """Add the report of the run and the leaderboard of a sweep; they may be made again."""
        pages = [("report", self._record.report)] if self._record and self._record.report else []
        boards = self._results("compare_trials", Leaderboard)
        pages += [("sweep", record.manifest) for record, _ in boards]
        for folder, manifest in pages:
            try:
                found = self._runs.store.read(manifest).files
                files = {f"{folder}/{f.path}": self._runs.store.read_entry(f) for f in found}
                self._runs.client.log_files(run.mlflow_run_id, files)
            except (DataError, ServiceError) as error:
                logger.warning("MLflow lacks %s of run %s: %s", folder, self._runs.run_id, error)

    def _datasets(self) -> Iterator[Item]:
        """Yield the pictures that the run trained on, and the class pictures, by digest."""
        store = self._runs.store
        for kind, name in DATASETS.items():
            for step in (step.name for step in steps() if step.result is kind):
                for record, pictures in self._results(step, kind):
                    dataset = {
                        "name": name,
                        "digest": dataset_digest(store, record.manifest),
                        "source_type": "s3",
                        "source": json.dumps({"uri": store.uri_of(record.manifest)}),
                        "profile": json.dumps({"num_images": pictures.num_images}),
                    }
                    yield {"dataset": dataset, "tags": listed({CONTEXT_TAG: "training"})}

    def _results(self, step: str, kind: type[ResultT]) -> Iterator[tuple[StepRecord, ResultT]]:
        """Yield the records of a finished step with their results."""
        for record in self._steps.get(step, []):
            if record.status != "done" or not record.manifest:
                continue
            try:
                yield record, self._runs.store.read_as(kind, record.manifest)
            except (DataError, ServiceError) as error:
                logger.warning("MLflow does not show the result of %s: %s", step, error)


def dataset_digest(store: Store, manifest: str) -> str:
    """Return the digest by which MLflow knows the pictures of a manifest."""
    return store.read(manifest).content_digest[:_DIGEST_CHARACTERS]


def headline_metrics(evaluation: Evaluation) -> dict[str, float]:
    """Return the finite mean scores and gains of an evaluation by their names in MLflow."""
    return {
        f"gain_over_{model}/{metric}" if section == "gains" else f"{model}/{metric}": mean
        for section, model, metric, mean in evaluation.figures()
    }


def _common_config(shards: Sequence[StepRecord]) -> dict[str, object]:
    """Return what the key of a step holds of the configuration, where all its shards agree."""
    configs = [dotted(shard.key_parts.get("config", {})) for shard in shards]
    return {
        name: value
        for name, value in configs[0].items()
        if all(name in config and config[name] == value for config in configs)
    }


def _status_of(shards: Sequence[StepRecord]) -> CloseStatus:
    """Return how a step ended; a shard still `running` when the run is over was killed."""
    statuses = {shard.status for shard in shards}
    if "failed" in statuses:
        return "FAILED"
    return "KILLED" if "running" in statuses else "FINISHED"


def _end(record: StepRecord) -> float:
    return record.started_at + record.seconds
