"""The summary of a run: the one object that `run` and `status` print."""

import time
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field

from boothline.catalogue import place_of, steps_of
from boothline.errors import BoothlineError
from boothline.launch.local.events import EventTail, RunProgress
from boothline.launch.local.folder import ACTIVE_FILE, RunFolder, is_active
from boothline.launch.local.session import Session
from boothline.results import (
    BASE,
    FINE_TUNED,
    Dataset,
    Decision,
    Evaluation,
    Leaderboard,
    Model,
    Promotion,
    Result,
    RuleResult,
    TrialRow,
)
from boothline.runs import StepRecord, read_run
from boothline.store import ManifestRef, Store, layout
from boothline.tracking.identity import recorded
from boothline.trials import in_words, steps_with_trials

ResultT = TypeVar("ResultT", bound=Result)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StepSummary(_Part):
    """One step or shard."""

    name: str
    status: str
    seconds: float
    reused: bool
    manifest: str


class ModelSummary(_Part):
    """The model that the run registered."""

    name: str
    version: str
    digest: str


class TrialSummary(_Part):
    """One trial of a sweep."""

    trial: int
    settings: str
    scores: dict[str, float]
    failure: str = Field(default="", description="Step and reason of a trial that failed.")


class LiveStep(_Part):
    """How far one step of a running run is, its shards or trials together."""

    step: str
    status: str = Field(description="waiting, running, done, reused or failed.")
    done: int
    total: int
    unit: str
    note: str
    seconds: float
    seconds_left: float | None = Field(description="None when unknown.")


class Summary(_Part):
    """One run."""

    run_id: str
    pipeline: str = "dreambooth"
    status: str
    seconds: float
    attempts: list[float] = Field(
        default_factory=list, description="Seconds of each attempt that ended here."
    )
    steps: list[StepSummary]
    report: str = Field(description="Path of the report here; empty when there is none.")
    model: ModelSummary | None
    metrics: dict[str, float]
    verdict: str = Field(description="promoted, refused, or empty when the gate was not reached.")
    rules: list[str] = Field(description="The gate's rules in words.")
    mlflow: str = Field(description="URL of the run in MLflow; empty without MLflow.")
    progress: list[LiveStep] = Field(
        default_factory=list, description="How far each step is, while the run is running."
    )
    trials: list[TrialSummary] = Field(
        default_factory=list, description="Trials of a sweep, the best first."
    )
    decision: str = Field(
        default="", description="Of a retraining: train or skip; empty for other runs."
    )
    triggers: list[str] = Field(
        default_factory=list, description="What a retraining found, in words."
    )
    pictures: str = Field(
        default="", description="How many instance pictures are used and left out, in words."
    )


def summarise(session: Session, folder: RunFolder, *, elsewhere: bool = False) -> Summary:
    """Return the summary of a run by the store and the run folder.

    Args:
        session: the open home folder.
        folder: the run's folder.
        elsewhere: whether it ran elsewhere, so that whether it still does is not known here.

    Raises:
        ServiceError: the store is unreachable.
    """
    store, run_id = session.store, folder.run_id
    record = read_run(store, run_id)
    steps = sorted(steps_with_trials(store, run_id), key=_place)
    active = elsewhere or is_active(session.home, run_id)
    status = record.status if record else "running"
    if status == "running" and not active:
        status = "interrupted"
    done = {step.step: step.manifest for step in steps if step.status == "done"}
    decision = _result(store, Decision, done.get("check_triggers", ""))
    leaderboard = _result(store, Leaderboard, done.get("compare_trials", ""))
    if record and record.pipeline == "sweep":  # the model of a sweep is that of its best trial
        best = leaderboard.best if leaderboard else None
        done |= {
            "publish_checkpoint": best.model if best else "",
            "evaluate": best.evaluation if best else "",
        }
    promotion = _result(store, Promotion, done.get("promote", ""))
    return Summary(
        run_id=run_id,
        pipeline=record.pipeline if record else folder.pipeline,
        status=status,
        seconds=round(record.seconds if record else 0.0, 3),
        attempts=folder.attempts,
        steps=[
            StepSummary(
                name=step.label,
                status=step.status if active or step.status != "running" else "interrupted",
                seconds=round(step.seconds, 3),
                reused=step.reused,
                manifest=step.manifest,
            )
            for step in steps
        ],
        report=_local_report(store, record.report if record else "", folder),
        model=_model(store, done.get("publish_checkpoint", "")),
        metrics=flat_metrics(_result(store, Evaluation, done.get("evaluate", ""))),
        verdict=promotion.verdict if promotion else "",
        rules=[_rule(rule) for rule in promotion.rules] if promotion else [],
        mlflow=_mlflow_page(session, run_id),
        progress=live_steps(progress_of(session.home, folder))
        if status == "running" and not elsewhere
        else [],
        trials=[_trial(row) for row in leaderboard.trials] if leaderboard else [],
        decision=decision.decision if decision else "",
        triggers=[trigger.text for trigger in decision.triggers] if decision else [],
        pictures=_pictures(_result(store, Dataset, done.get("validate_data", ""))),
    )


def _pictures(dataset: Dataset | None) -> str:
    """Return in words what became of the subject's pictures; empty for no dataset."""
    if dataset is None:
        return ""
    parts = [f"{dataset.num_images} used"]
    if dataset.num_quarantined:
        parts.append(f"{dataset.num_quarantined} left out")
    if dataset.num_warnings:
        parts.append(f"{dataset.num_warnings} warnings")
    return ", ".join(parts) + ("; see validation.html" if len(parts) > 1 else "")


def flat_metrics(evaluation: Evaluation | None) -> dict[str, float]:
    """Return the means of an evaluation by flat names.

    The fine-tuned model's scores go by their own names (`dino`, `clip_t`), the others' by
    `base_dino`, `champion_dino`, `gain_dino` (over the base), `champion_gain_dino`.
    """
    if evaluation is None:
        return {}
    usual = {"metrics": FINE_TUNED, "gains": BASE}
    return {
        f"{'' if model == usual[section] else f'{model}_'}{'gain_' if section == 'gains' else ''}"
        f"{metric}": round(mean, 6)
        for section, model, metric, mean in evaluation.figures()
    }


def _place(record: StepRecord) -> tuple[int, int]:
    """Return where a step stands in the pipeline."""
    return place_of(record.step), record.shard or 0


def _trial(row: TrialRow) -> TrialSummary:
    """Return one row of a leaderboard."""
    return TrialSummary(
        trial=row.trial, settings=in_words(row.settings), scores=row.scores, failure=row.failure
    )


def _result(store: Store, kind: type[ResultT], manifest: str) -> ResultT | None:
    """Return a result of a kind; None for no manifest."""
    return store.read_as(kind, manifest) if manifest else None


def _rule(rule: RuleResult) -> str:
    """Return one rule of the gate in words."""
    outcome = "passed" if rule.passed else "failed"
    return rule.text or f"{rule.name}: {rule.value}: {outcome}."


def _model(store: Store, manifest: str) -> ModelSummary | None:
    """Return the registered version of a model manifest."""
    if not manifest:
        return None
    name = store.read_as(Model, manifest).model_name
    digest = ManifestRef.parse(manifest).digest
    version = store.get_record(layout.version(name, digest)) or {}
    return ModelSummary(name=name, version=str(version.get("version", "")), digest=digest)


def _mlflow_page(session: Session, run_id: str) -> str:
    """Return the URL of the run's page in MLflow, or of MLflow if it does not know the run."""
    uri = session.settings.mlflow_uri
    run = recorded(session.store, run_id) if uri else None
    if run is None:
        return uri
    page = f"{uri}/#/experiments/{run.experiment_id}/runs/{run.mlflow_run_id}"
    return f"{page}?workflowType=machine_learning"  # else MLflow 3 opens its pages for agents


def _local_report(store: Store, report: str, folder: RunFolder) -> str:
    """Return the path of the report's copy in the run folder, made now; empty without a report."""
    if not report:
        return ""
    try:
        page = store.read_bytes(report, "report.html")
    except BoothlineError:
        if folder.report.exists():
            return str(folder.report)
        raise
    if not folder.report.exists() or folder.report.read_bytes() != page:
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.report.write_bytes(page)
    return str(folder.report)


def progress_of(home: Path, folder: RunFolder) -> RunProgress:
    """Return how far the current attempt at a run is; waiting everywhere when it has none.

    Args:
        home: the home folder, which knows when the active attempt began.
        folder: the run's folder.
    """
    progress = RunProgress([step.name for step in steps_of(folder.pipeline)])
    active = home / ACTIVE_FILE
    since = active.stat().st_mtime if active.exists() else 0.0
    for event in EventTail(folder.path, since=since).read():
        progress.apply(event)
    return progress


def live_steps(progress: RunProgress, *, now: float | None = None) -> list[LiveStep]:
    """Return the steps of a progress as plain values.

    Args:
        progress: how far the run is.
        now: seconds since the epoch; None: the clock's.
    """
    at = time.time() if now is None else now
    return [
        LiveStep(
            step=step.name,
            status="reused" if step.reused else step.state,
            done=step.done,
            total=step.total,
            unit=step.unit,
            note=step.note if step.state == "running" else step.remark,
            seconds=round(step.seconds(at), 1),
            seconds_left=None if (left := step.seconds_left(at)) is None else round(left, 1),
        )
        for step in progress.steps.values()
    ]
