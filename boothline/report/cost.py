"""Adds up what a run cost: processor and GPU time, energy, and what a step or picture took."""

from collections.abc import Mapping

from boothline.report.model import Cost, CostLine, UnitCost
from boothline.report.sources import RunSources
from boothline.results import Evaluation, EvaluationShard, Images, Prior, Result, Training
from boothline.runs import StepRecord
from boothline.store import Manifest

GPU_STEPS = (
    "generate_prior",
    "train",
    "publish_checkpoint",
    "sample_models",
    "evaluate",
    "batch_infer",
)
"""Steps of the torch image: while they run they hold every GPU that they see."""

_UNITS: Mapping[str, tuple[str, type[Result]]] = {
    "train": ("optimizer step", Training),
    "generate_prior": ("picture", Prior),
    "sample_models": ("picture", EvaluationShard),
    "batch_infer": ("picture", Images),
    "evaluate": ("picture judged", Evaluation),
}
"""What a step makes, and its result, which counts it."""


def cost_of(run: RunSources) -> Cost:
    """Return what each step of a run cost; a reused step cost what looking it up took."""
    lines = tuple(_line(run, step) for step in run.steps)
    return Cost(lines=lines, energy=_energy_in_words(run.steps))


def _line(run: RunSources, step: StepRecord) -> CostLine:
    """Return one step's cost with that of a unit of its result."""
    usage = step.usage
    if usage is None:
        return CostLine(label=step.label, reused=step.reused, seconds=step.seconds)
    gpus = usage.num_gpus if step.step in GPU_STEPS and not step.reused else 0
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
    manifest = _manifest(run, step)
    if manifest is None or step.reused or step.step not in _UNITS:
        return "", 0
    unit, kind = _UNITS[step.step]
    return unit, run.attempt(f"The result of {step.label}", lambda: kind.num_units(manifest)) or 0


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
