"""Write the report of a run, record how it ended, and bring MLflow up to date."""

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from boothline import settings as environment
from boothline.components.finish_run import ABOUT
from boothline.config.training import TrainingConfig
from boothline.errors import BoothlineError
from boothline.notifying import tell_ending
from boothline.registry.describing import describe_version
from boothline.report import collect_from, render
from boothline.report.collect import elapsed_seconds
from boothline.report.outcome import final_status
from boothline.report.sources import RunSources, sources_of
from boothline.results import Report
from boothline.runs import (
    RunRecord,
    RunStatus,
    StepRecord,
    read_run,
    read_steps,
    trial_run_id,
    write_run,
)
from boothline.steps import Step, StepContext, StepInputs, StepKey, show
from boothline.store import ManifestDraft, ManifestRef, Store, layout
from boothline.telemetry import report_run
from boothline.tracking import StepTracker, reconcile
from boothline.trials import TRIAL_PIPELINE, trial_configs, trial_status

logger = logging.getLogger(__name__)

REPORT_FILE = "report.html"
_LATER_SETTINGS = TrainingConfig().model_dump(
    mode="json", include={"token_embedding", "frozen_precision", "shard_frozen"}
)


class Inputs(StepInputs):
    """Inputs of finish_run: the run is all it needs."""


def key(context: StepContext, inputs: Inputs) -> StepKey:
    """Return what the report depends on: the records of the run and of its steps.

    The manifests are named by reference, not read: the report must be written even when one of
    them is broken.
    """
    steps = [record.model_dump(mode="json", exclude={"uses"}) for record in _steps(context)]
    run = _record(context)
    return StepKey(
        config={
            "run_id": run.run_id,
            "pipeline": run.pipeline,
            "profile": run.profile,
            "created_at": run.created_at,
            "config": _settings(run.config),
            "steps": steps,
        }
    )


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run; later ones count only where they are used."""
    training = {
        name: value
        for name, value in config.get("training", {}).items()
        if _LATER_SETTINGS.get(name, ...) != value
    }
    settings = {name: value for name, value in config.items() if value or name != "subjects"}
    return settings | ({"training": training} if training else {})


def produce(context: StepContext, inputs: Inputs) -> ManifestDraft:
    """Collect and render the report of the run, whatever state the run is in."""
    run = sources_of(context.store, _record(context))
    status = final_status(run)
    context.progress.update(1, 2, unit="stages", note=f"run {status}")
    path = context.folder / REPORT_FILE
    path.write_text(render(collect_from(run, status=status)), encoding="utf-8")
    context.progress.update(2, 2, unit="stages", note="report written")
    return Report(status=status, run_id=inputs.run_id).draft(
        {REPORT_FILE: path}, inputs=_results(run)
    )


def finish(context: StepContext, inputs: Inputs, ref: ManifestRef) -> None:
    """Record the run's end, copy the report into the run folder and bring MLflow up to date.

    A tracking server that does not answer is logged and changes nothing: a later call makes up
    for it.
    """
    store, settings = context.store, context.settings
    _release_nodes(context)
    status, page = store.read_as(Report, ref).status, store.read_bytes(ref, REPORT_FILE)
    seconds = elapsed_seconds(_steps(context))
    update = {"status": status, "report": str(ref), "seconds": seconds}
    record = _record(context)
    write_run(store, record.model_copy(update=update))
    report_run(record.run_id, pipeline=record.pipeline, status=status, started_at=record.created_at)
    if settings.run_dir:
        settings.run_dir.mkdir(parents=True, exist_ok=True)
        (settings.run_dir / REPORT_FILE).write_bytes(page)
    shown = partial(_show, context)
    if reconcile(settings, store, inputs.run_id, status=status, show=shown):
        describe_version(settings, store, inputs.run_id)
    _finish_trials(context)
    _notify(context, status, seconds=seconds)


STEP = Step(name=ABOUT.name, inputs=Inputs, version=1, key=key, produce=produce, finish=finish)
run = STEP.run


def html(report: str) -> bytes:
    """Return the page of a report manifest, as UTF-8."""
    return Store.connect(environment.current()).read_bytes(report, REPORT_FILE)


def _record(context: StepContext) -> RunRecord:
    """Return the record of the run, or what can be said of a run that was never recorded."""
    record = read_run(context.store, context.run_id)
    if record is not None:
        return record
    starts = [step.started_at for step in _steps(context)]
    return RunRecord(
        run_id=context.run_id,
        pipeline=_pipeline(context),
        status="running",
        config=context.config.model_dump(mode="json"),
        created_at=min(starts, default=0.0),
    )


def _release_nodes(context: StepContext) -> None:
    """Delete the TrainJobs that the run left; an API that is away is logged and changes nothing."""
    if not context.settings.train_job:
        return
    from boothline.trainjob.cluster import Cluster
    from boothline.trainjob.settings import TrainJobSettings

    settings = TrainJobSettings.from_json(context.settings.train_job)
    trials = range(len(context.config.sweep.trials))
    runs = [context.run_id, *(trial_run_id(context.run_id, number) for number in trials)]
    try:
        cluster = Cluster.connect(settings.namespace)
        for run_id in runs:
            keys = [
                record.key
                for record in read_steps(context.store, run_id)
                if record.step == "train" and record.status != "done"
            ]
            for name in cluster.delete_left(keys=keys, run_id=run_id):
                logger.warning("deleted the TrainJob %s, which the train step left", name)
    except BoothlineError as error:
        logger.warning("TrainJobs of this run may be left: %s", error)


def _notify(context: StepContext, status: RunStatus, *, seconds: float) -> None:
    """Notify the webhook, if there is one."""
    run_dir = context.settings.run_dir
    tell_ending(
        context.settings,
        context.store,
        _record(context),
        config=context.config.notification,
        status=status,
        seconds=seconds,
        logs=run_dir / "logs" if run_dir else None,
    )


def _pipeline(context: StepContext) -> str:
    """Return the pipeline of a run that was never recorded, by its configuration and steps."""
    if context.config.sweep.trials:
        return "sweep"
    steps = {step.step for step in _steps(context)}
    return "retrain" if "check_triggers" in steps else "dreambooth"


def _finish_trials(context: StepContext) -> None:
    """Record how each trial of a sweep ended and bring its run in MLflow up to date."""
    store, config = context.store, context.config
    for number, trial in enumerate(trial_configs(config)):
        run_id = trial_run_id(context.run_id, number)
        steps = read_steps(store, run_id)
        if not steps:
            continue
        record = RunRecord(
            run_id=run_id,
            pipeline=TRIAL_PIPELINE,
            status=trial_status(steps),
            config=trial.model_dump(mode="json"),
            created_at=steps[0].started_at,
            seconds=elapsed_seconds(steps),
        )
        write_run(store, record)
        shown = partial(_show, replace(context, run_id=run_id, config=trial))
        if reconcile(context.settings, store, run_id, status=record.status, show=shown):
            describe_version(context.settings, store, run_id)


def _steps(context: StepContext) -> list[StepRecord]:
    """Return the records of the run's steps, without this one's."""
    records = read_steps(context.store, context.run_id)
    return [record for record in records if record.step != ABOUT.name]


def _results(run: RunSources) -> tuple[ManifestRef, ...]:
    """Return the manifests that the report shows."""
    return tuple(source.ref for found in run.sources.values() for source in found)


def _show(context: StepContext, record: StepRecord, tracker: StepTracker) -> None:
    """Log what the result of a step shows; of a training without one, its last state."""
    ref = ManifestRef.parse(record.manifest) if record.manifest else None
    if ref is None and record.key_parts:
        states = context.store.manifests(f"{layout.training_states(record.key)}/")
        ref = context.store.find(states[-1]) if states else None
    if ref is None:
        return
    with tempfile.TemporaryDirectory(prefix=f"shown-{record.label}-") as folder:
        of_step = replace(
            context,
            tracker=tracker,
            folder=Path(folder),
            manifest_path=ref.path,
            key_config=record.key_parts.get("config", {}),
        )
        show(record.step, of_step, ref)
