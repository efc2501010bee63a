"""Collects a run into the report's view model."""

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import metadata

import yaml

import boothline
from boothline.config import RunConfig
from boothline.report.cost import cost_of
from boothline.report.lineage import lineage_of
from boothline.report.model import RunReport, StepLine, Verdict
from boothline.report.outcome import final_status, read_evaluation, read_promotion, verdict_of
from boothline.report.pictures import PictureLoader
from boothline.report.scores import (
    copies_of,
    evaluation_facts,
    has_papers_encoders,
    leaderboard_of,
    metrics_of,
    published_of,
    warning_of,
)
from boothline.report.sections import batch_of, comparisons_of, subject_of, training_of
from boothline.report.sources import RunSources, read_sources
from boothline.results import Evaluation, Promotion
from boothline.runs import RunStatus, StepRecord
from boothline.store import Store

PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "peft",
    "kfp",
    "mlflow",
    "numpy",
    "pillow",
)


def collect(store: Store, run_id: str) -> RunReport:
    """Return what the report shows of a run, complete or not.

    Raises:
        RunNotFoundError: the store has no record of the run.
        ServiceError: the store is unreachable.
    """
    run = read_sources(store, run_id)
    return collect_from(run, status=run.record.status)


def collect_from(run: RunSources, *, status: RunStatus | None = None) -> RunReport:
    """Return what the report shows of records that are read already.

    Args:
        run: the run's records and manifests.
        status: status to show; unset: derived from the steps, as the run's end would.
    """
    status = status or final_status(run)
    evaluation, promotion = read_evaluation(run), read_promotion(run)
    loader = PictureLoader(run)
    subject = subject_of(run, loader)
    comparisons = comparisons_of(run, evaluation, loader)
    copies = copies_of(run, evaluation, loader)
    training = training_of(run, loader)
    batch = batch_of(run, loader)
    lineage = lineage_of(run)
    return RunReport(
        run_id=run.record.run_id,
        pipeline=run.record.pipeline,
        profile=run.record.profile,
        status=status,
        created_at=run.record.created_at,
        seconds=elapsed_seconds(run.steps),
        verdict=_verdict(run, status, promotion=promotion, evaluation=evaluation),
        subject=subject,
        leaderboard=leaderboard_of(run),
        metrics=metrics_of(evaluation) if evaluation else (),
        published=published_of(evaluation) if evaluation else (),
        same_encoders=has_papers_encoders(run.config),
        evaluation_facts=evaluation_facts(evaluation, run.config) if evaluation else (),
        copies=copies,
        cost=cost_of(run),
        comparisons=comparisons,
        batch=batch,
        training=training,
        steps=step_lines(run),
        lineage=lineage,
        changed_settings=tuple(changed_settings(run.record.config)),
        config_yaml=yaml.safe_dump(
            run.record.config, sort_keys=False, allow_unicode=True, width=90
        ),
        environment=environment_facts(),
        notices=tuple(dict.fromkeys(run.notices)),
    )


def _verdict(
    run: RunSources,
    status: RunStatus,
    *,
    promotion: Promotion | None,
    evaluation: Evaluation | None,
) -> Verdict:
    """Return the verdict, with a warning where the model may repeat its training pictures."""
    verdict = verdict_of(run, status, promotion=promotion, evaluation=evaluation)
    warning = warning_of(evaluation.copies) if evaluation else ""
    if not warning or status in ("failed", "interrupted", "running"):
        return verdict
    return replace(verdict, sentences=(*verdict.sentences, warning))


def elapsed_seconds(steps: Sequence[StepRecord]) -> float:
    """Return the seconds from the start of the first step to the end of the last one."""
    if not steps:
        return 0.0
    start = min(step.started_at for step in steps)
    return max(step.started_at + step.seconds for step in steps) - start


def step_lines(run: RunSources) -> tuple[StepLine, ...]:
    """Return the steps with their timings, in pipeline order."""
    return tuple(
        StepLine(
            label=step.label,
            status=step.status,
            seconds=step.seconds,
            reused=step.reused,
            manifest_digest=step.manifest.rpartition("@sha256:")[2],
        )
        for step in run.steps
    )


def changed_settings(config: Mapping[str, object]) -> Iterator[tuple[str, str, str]]:
    """Yield (setting, value, default) for each setting that differs from its default."""
    defaults = dict(_flat(RunConfig().model_dump(mode="json")))
    for name, value in _flat(config):
        default = defaults.get(name)
        if value != default:
            yield name, _short(value), _short(default)


def _flat(config: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _short(value: object) -> str:
    """Return a setting's value on one line."""
    if value is None:
        return "unset"
    if isinstance(value, list):
        return "; ".join(str(item) for item in value) or "none"
    return str(value)


def environment_facts() -> tuple[tuple[str, str], ...]:
    """Return the versions installed where the report is written; names no host and no path."""
    facts = [
        ("boothline", boothline.__version__),
        ("Python", platform.python_version()),
        ("system", f"{platform.system()} {platform.machine()}"),
    ]
    for name in PACKAGES:
        try:
            facts.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return tuple(facts)
