"""Making MLflow mirror a run at its end, however it went."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Literal, TypeVar

from boothline.catalogue import ends_run, steps
from boothline.errors import DataError, ServiceError, TrackingError
from boothline.results import Evaluation, Model, Promotion, Result
from boothline.runs import RunRecord, RunStatus, StepRecord, read_run, read_steps
from boothline.settings import Settings
from boothline.store import Store
from boothline.tracking.client import connect
from boothline.tracking.datasets import NAMES, dataset_input
from boothline.tracking.delivery import Delivery
from boothline.tracking.identity import PARENT_TAG, Mirror, MlflowRun
from boothline.tracking.parent import dotted, log_config
from boothline.tracking.spool import orphans, spool_folder

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, RunTag

logger = logging.getLogger(__name__)

ResultT = TypeVar("ResultT", bound=Result)

EndStatus = Literal["FINISHED", "FAILED", "KILLED"]
END_STATUS: Mapping[RunStatus, EndStatus] = {
    "done": "FINISHED",
    "refused": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}
DEFAULT_EXPERIMENT = "boothline"


def reconcile(settings: Settings, store: Store, run_id: str, *, status: RunStatus) -> bool:
    """Make MLflow list the run and its steps with all that was logged, however the run went.

    Idempotent: spools of this machine are replayed, missing nested runs (of reused steps, say) are
    made, strays of lost races deleted, the evaluation's scores are put on the parent, and every run
    is ended.

    Args:
        settings: tells the tracking server and where the spools lie.
        store: has the records of the run and its steps.
        run_id: the pipeline run.
        status: of the run; `running` leaves the parent running.

    Returns:
        Whether MLflow mirrors the run now. Otherwise the reason is logged and a later call makes up
        for it.
    """
    if not settings.mlflow_uri:
        return False
    record = read_run(store, run_id)
    experiment = DEFAULT_EXPERIMENT
    if record is not None:
        experiment = record.config.get("tracking", {}).get("experiment", DEFAULT_EXPERIMENT)
    try:
        client = connect(settings.mlflow_uri)
        mirror = Mirror(client=client, store=store, run_id=run_id, experiment=experiment)
        _Reconciliation(mirror, settings, record).carry_out(status)
    except TrackingError as error:
        logger.warning("MLflow does not mirror run %s yet: %s", run_id, error)
        return False
    return True


class _Reconciliation:
    """One call of `reconcile`."""

    def __init__(self, mirror: Mirror, settings: Settings, record: RunRecord | None) -> None:
        self._mirror = mirror
        self._settings = settings
        self._record = record
        self._steps = {
            name: list(shards)
            for name, shards in groupby(
                sorted(read_steps(mirror.store, mirror.run_id), key=lambda step: step.step),
                key=lambda step: step.step,
            )
            if not ends_run(name)
        }

    def carry_out(self, status: RunStatus) -> None:
        """Bring MLflow up to date.

        Raises:
            TrackingError: MLflow is unreachable.
        """
        times = [shard.started_at for shards in self._steps.values() for shard in shards]
        started_at = self._record.created_at if self._record else min(times, default=None)
        parent = self._mirror.parent(
            started_ms=None if started_at is None else _ms(started_at), verify=True
        )
        runs = {
            name: self._mirror.step(name, started_ms=_ms(shards[0].started_at), verify=True)
            for name, shards in self._steps.items()
        }
        self._replay(runs)
        for name, shards in self._steps.items():
            self._settle_step(shards, self._delivery(runs[name]), parent)
        self._settle_parent(self._delivery(parent), status)
        self._mirror.remove_strays({run.mlflow_run_id for run in (parent, *runs.values())})

    def _delivery(self, run: MlflowRun) -> Delivery:
        return Delivery(self._mirror.client, run.mlflow_run_id)

    def _replay(self, runs: Mapping[str, MlflowRun]) -> None:
        """Send what this machine's spools still hold; each is deleted once MLflow has it."""
        with orphans(spool_folder(self._settings, self._mirror.run_id)) as spools:
            for spool in spools:
                if spool.step not in runs:
                    continue
                num_sent = self._delivery(runs[spool.step]).drain(spool)
                spool.remove()
                logger.info("sent %d spooled entries of %s to MLflow", num_sent, spool.step)

    def _settle_step(
        self, shards: Sequence[StepRecord], delivery: Delivery, parent: MlflowRun
    ) -> None:
        """Set what the records of the step say: manifests, reuse, settings, seconds, status."""
        from mlflow.entities import Metric, RunTag

        ended_ms = max(_ms(shard.started_at + shard.seconds) for shard in shards)
        is_reused = all(shard.reused for shard in shards)
        tags = [
            RunTag(PARENT_TAG, parent.mlflow_run_id),
            RunTag("boothline.reused", str(is_reused).lower()),
        ]
        tags += [_manifest_tag(shard) for shard in shards if shard.manifest]
        tags += [
            RunTag("boothline.error", shard.failure.message) for shard in shards if shard.failure
        ]
        metrics = [
            Metric(
                "seconds", shard.seconds, _ms(shard.started_at + shard.seconds), shard.shard or 0
            )
            for shard in shards
            if shard.status == "done" and not shard.reused
        ]
        delivery.batch(tags=tags, metrics=metrics)
        log_config(delivery, _common_config(shards))
        delivery.end(_status_of(shards), time_ms=ended_ms)

    def _settle_parent(self, delivery: Delivery, status: RunStatus) -> None:
        """Put configuration, scores, verdict and status on the parent."""
        from mlflow.entities import Metric, RunTag

        if self._record is not None:
            log_config(delivery, self._record.config)
        tags = {"boothline.status": status, "boothline.reused": str(self._is_reused()).lower()}
        if self._record is not None and self._record.report:
            tags["boothline.report"] = self._record.report
        metrics: list[Metric] = []
        for record, promotion in self._results("promote", Promotion):
            tags["boothline.verdict"] = promotion.verdict
            tags["boothline.promotion"] = record.manifest
        for record, model in self._results("publish_checkpoint", Model):
            tags["boothline.model"] = record.manifest
            tags["boothline.model_name"] = model.model_name
        for record, evaluation in self._results("evaluate", Evaluation):
            time_ms = _ms(record.started_at + record.seconds)
            metrics += [
                Metric(name, value, time_ms, 0)
                for name, value in headline_metrics(evaluation).items()
            ]
        delivery.batch(metrics=metrics, tags=[RunTag(name, value) for name, value in tags.items()])
        delivery.inputs(self._datasets())
        if status in END_STATUS:
            delivery.end(END_STATUS[status], time_ms=self._ended_ms())

    def _is_reused(self) -> bool:
        return all(shard.reused for shards in self._steps.values() for shard in shards)

    def _datasets(self) -> list["DatasetInput"]:
        """Return the pictures that the run trained on, and the class pictures, by digest."""
        return [
            dataset_input(self._mirror.store, record.manifest, kind)
            for step in steps()
            for kind in NAMES
            if step.result is kind
            for record, _ in self._results(step.name, kind)
        ]

    def _results(self, step: str, kind: type[ResultT]) -> Iterator[tuple[StepRecord, ResultT]]:
        """Yield the records of a finished step with their results."""
        for record in self._steps.get(step, []):
            if record.status != "done" or not record.manifest:
                continue
            try:
                yield record, self._mirror.store.read_as(kind, record.manifest)
            except (DataError, ServiceError) as error:
                logger.warning("MLflow is not told the result of %s: %s", step, error)

    def _ended_ms(self) -> int:
        ends = [
            shard.started_at + shard.seconds for shards in self._steps.values() for shard in shards
        ]
        if self._record is not None:
            ends.append(self._record.created_at + self._record.seconds)
        return _ms(max(ends, default=0.0))


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


def _manifest_tag(record: StepRecord) -> "RunTag":
    from mlflow.entities import RunTag

    shard = "" if record.shard is None else f".{record.shard}"
    return RunTag(f"boothline.manifest{shard}", record.manifest)


def _status_of(shards: Sequence[StepRecord]) -> EndStatus:
    """Return how a step ended; a shard still `running` when the run is over was killed."""
    statuses = {shard.status for shard in shards}
    if "failed" in statuses:
        return "FAILED"
    return "KILLED" if "running" in statuses else "FINISHED"


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
