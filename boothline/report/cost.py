"""Adds up what a run cost: processor and GPU time, energy, and what a step or picture took."""

from boothline.catalogue import TORCH, described
from boothline.report.model import Cost, CostLine, UnitCost
from boothline.report.sources import RunSources
from boothline.runs import StepRecord
from boothline.store import Manifest


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
