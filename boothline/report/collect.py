"""Collects a run into the report's view model."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import yaml

from boothline.catalogue import TORCH, described
from boothline.config import RunConfig
from boothline.report.machine import environment_facts
from boothline.report.model import (
    Cost,
    CostLine,
    Lineage,
    LineageLink,
    LineageNode,
    RunReport,
    StepLine,
    UnitCost,
    Verdict,
)
from boothline.report.outcome import final_status, read_evaluation, read_promotion, verdict_of
from boothline.report.pictures import PictureLoader
from boothline.report.scores import (
    confusion_tables,
    copies_of,
    evaluation_facts,
    has_papers_encoders,
    leaderboard_of,
    metrics_of,
    published_of,
    warning_of,
)
from boothline.report.sections import batch_of, comparisons_of, subject_of, training_of
from boothline.report.sources import RunSources, Source, read_sources
from boothline.results import KINDS, Model, Prior, Training
from boothline.runs import RunStatus, StepRecord
from boothline.store import Manifest, ManifestRef, Store, layout

MAX_NODES = 60
BASE_MODEL = "base_model"
MAIN_FOLDERS = (layout.STEPS, layout.TRAINING)
KIND_ORDER = tuple(kind.kind for kind in KINDS)


def lineage_of(run: RunSources) -> Lineage:
    """Return the manifests of a run and, transitively, their inputs; results come first.

    Results and states of steps are followed before parts (a batch of pictures, say), so that the
    limit cuts off parts only.
    """
    starts = [
        source
        for found in run.sources.values()
        for source in found
        if source.manifest.files or source.manifest.inputs  # else the step had nothing to do
    ]
    known: dict[str, Source] = {source.ref.digest: source for source in starts}
    left_out: set[str] = set()
    waiting, parts = deque(_inputs_of(run, starts)), deque[ManifestRef]()
    while waiting or parts:
        ref = waiting.popleft() if waiting else parts.popleft()
        if ref.digest in known or ref.digest in left_out:
            continue
        if not ref.path.startswith(MAIN_FOLDERS) and waiting:
            parts.append(ref)
            continue
        if len(known) >= MAX_NODES:
            left_out.add(ref.digest)
            continue
        manifest = run.attempt(f"Lineage: {ref.path}", partial(run.store.read, ref))
        if manifest is None:
            left_out.add(ref.digest)
            continue
        known[ref.digest] = Source(ref=ref, manifest=manifest)
        waiting.extend(_inputs_of(run, [known[ref.digest]]))
    kinds = {digest: source.manifest.kind for digest, source in known.items()}
    bases = _bases_of(known.values())
    kinds |= dict.fromkeys(bases, BASE_MODEL)
    ordered = sorted(known.values(), key=lambda source: _order_of(source.manifest.kind))
    return Lineage(
        nodes=(
            *(_node(run, source, kinds) for source in ordered),
            *(_base_node(digest, source) for digest, source in bases.items()),
        ),
        num_left_out=len(left_out),
    )


def _bases_of(sources: Iterable[Source]) -> dict[str, str]:
    """Return the base models that manifests name: where each was found, by digest."""
    models = [Model.of(each.manifest) for each in sources if each.manifest.kind == Model.kind]
    return {
        model.base_model.digest: model.base_model.source
        for model in models
        if model.base_model.digest
    }


def _base_digest(manifest: Manifest) -> str:
    """Return the digest of the base model that a manifest was made with; empty: of none."""
    if manifest.kind == Model.kind:
        return Model.of(manifest).base_model.digest
    for kind in (Training, Prior):
        if manifest.kind == kind.kind:
            return kind.of(manifest).base_model_digest
    return ""


def _base_node(digest: str, source: str) -> LineageNode:
    """Return a base model as the page shows it: it is not a manifest of the store."""
    return LineageNode(
        digest=digest,
        path=layout.STEPS,
        kind=BASE_MODEL,
        uri=source,
        num_files=0,
        size_bytes=0,
        created_at="",
        content_digest=digest,
    )


def _inputs_of(run: RunSources, sources: Iterable[Source]) -> Iterator[ManifestRef]:
    """Yield the references that manifests name as their inputs."""
    for source in sources:
        for text in source.manifest.inputs:
            ref = run.attempt(f"Lineage: {text}", partial(ManifestRef.parse, text))
            if ref is not None:
                yield ref


def _order_of(kind: str) -> int:
    """Return the place of a kind on the way from results back to the pictures."""
    return KIND_ORDER.index(kind) if kind in KIND_ORDER else len(KIND_ORDER)


def _node(run: RunSources, source: Source, kinds: dict[str, str]) -> LineageNode:
    """Return one manifest as the page shows it."""
    manifest: Manifest = source.manifest
    inputs = []
    for text in dict.fromkeys(manifest.inputs):
        path, _, digest = text.partition("@sha256:")
        kind = kinds.get(digest, path.split("/", 1)[0])
        inputs.append(LineageLink(digest=digest, kind=kind, known=digest in kinds))
    base = _base_digest(manifest)
    if kinds.get(base) == BASE_MODEL:
        inputs.append(LineageLink(digest=base, kind=BASE_MODEL, known=True))
    return LineageNode(
        digest=source.ref.digest,
        path=source.ref.path,
        is_part=not source.ref.path.startswith(MAIN_FOLDERS),
        kind=manifest.kind,
        uri=run.store.uri_of(source.ref),
        num_files=len(manifest.files),
        size_bytes=sum(entry.size_bytes for entry in manifest.files),
        created_at=manifest.created_at,
        content_digest=manifest.content_digest,
        inputs=tuple(inputs),
    )


def cost_of(run: RunSources) -> Cost:
    """Return what each step of a run cost; a reused step cost what looking it up took."""
    lines = tuple(_line(run, step) for step in run.steps)
    return Cost(lines=lines, energy=_energy_in_words(run.steps))


def _line(run: RunSources, step: StepRecord) -> CostLine:
    """Return one step's cost with that of a unit of its result."""
    usage = step.usage
    if usage is None:
        return CostLine(label=step.label, reused=step.reused, seconds=step.seconds)
    gpus = usage.num_gpus if _holds_gpus(step.step) and not step.reused else 0
    gpu_seconds = gpus * step.seconds if gpus else None
    parts = [part for part in (usage.cpu_joules, usage.gpu_joules) if part is not None]
    joules = sum(parts) if parts else None
    unit, count = _unit(run, step)
    return CostLine(
        label=step.label,
        reused=step.reused,
        seconds=step.seconds,
        cpu_seconds=usage.cpu_seconds,
        gpu_seconds=gpu_seconds,
        joules=joules,
        per=UnitCost(
            unit=unit,
            cpu_seconds=usage.cpu_seconds / count,
            gpu_seconds=None if gpu_seconds is None else gpu_seconds / count,
            joules=None if joules is None else joules / count,
        )
        if count
        else None,
    )


def _unit(run: RunSources, step: StepRecord) -> tuple[str, int]:
    """Return what a step made and how many; 0 for a step that made nothing in this run."""
    manifest, about = _manifest(run, step), described(step.step)
    if manifest is None or step.reused or about is None or not about.unit:
        return "", 0
    count = run.attempt(f"The result of {step.label}", lambda: about.result.num_units(manifest))
    return about.unit, count or 0


def _holds_gpus(step: str) -> bool:
    """Return whether a step holds every GPU that it sees while it runs."""
    about = described(step)
    return about is not None and about.image == TORCH


def _manifest(run: RunSources, step: StepRecord) -> Manifest | None:
    """Return the manifest that a step made."""
    for source in run.sources.get(step.step, []):
        if str(source.ref) == step.manifest:
            return source.manifest
    return None


def _energy_in_words(steps: list[StepRecord]) -> str:
    """Return which energy could be read."""
    usages = [step.usage for step in steps if step.usage]
    kinds = [
        name
        for name, measured in (
            ("the CPU packages (RAPL)", any(one.cpu_joules is not None for one in usages)),
            ("the GPUs (NVML)", any(one.gpu_joules is not None for one in usages)),
        )
        if measured
    ]
    if not kinds:
        return "Energy was not measured: this machine lets neither RAPL nor NVML be read."
    return (
        f"Energy is that of {' and '.join(kinds)} of the whole machine; steps that ran side by "
        "side share it."
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
    parts = {name: _about(one, loader, name) for name, one in run.by_subject().items()}
    training = training_of(run, loader)
    batch = batch_of(run, loader)
    lineage = lineage_of(run)
    first = next(iter(parts.values()))
    report = RunReport(
        run_id=run.record.run_id,
        pipeline=run.record.pipeline,
        profile=run.record.profile,
        status=status,
        created_at=run.record.created_at,
        seconds=elapsed_seconds(run.steps),
        verdict=_verdict(
            verdict_of(run, status, promotion=promotion, evaluation=evaluation), status, parts
        ),
        leaderboard=leaderboard_of(run),
        same_encoders=has_papers_encoders(run.config),
        confusion=confusion_tables(evaluation),
        cost=cost_of(run),
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
        **first.shown,
    )
    if len(parts) == 1:
        return report
    each = (replace(report, about=name, **part.shown) for name, part in parts.items())
    return replace(report, several=tuple(each))


@dataclass(frozen=True, kw_only=True)
class _About:
    """What the report says of one subject.

    Attributes:
        shown: the fields of the report.
        warning: that the model may repeat its training pictures; empty: no sign of it.
    """

    shown: dict[str, Any]
    warning: str


def _about(run: RunSources, loader: PictureLoader, name: str) -> _About:
    """Return the outcome of a run for one subject."""
    evaluation, subject = read_evaluation(run), subject_of(run, loader)
    warning = warning_of(evaluation.copies) if evaluation else ""
    return _About(
        shown={
            "subject": replace(subject, name=name) if name else subject,
            "comparisons": comparisons_of(run, evaluation, loader),
            "copies": copies_of(run, evaluation, loader),
            "metrics": metrics_of(evaluation) if evaluation else (),
            "published": published_of(evaluation) if evaluation else (),
            "evaluation_facts": evaluation_facts(evaluation, run.config) if evaluation else (),
        },
        warning=f"{name}: {warning}" if name and warning else warning,
    )


def _verdict(verdict: Verdict, status: RunStatus, parts: Mapping[str, _About]) -> Verdict:
    """Return the verdict, with a warning where the model may repeat its training pictures."""
    warnings = tuple(part.warning for part in parts.values() if part.warning)
    if not warnings or status in ("failed", "interrupted", "running"):
        return verdict
    return replace(verdict, sentences=(*verdict.sentences, *warnings))


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
