"""Finds what to change so that a training fits into a given memory."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from boothline.config import RunConfig
from boothline.planning.memory import Device, MemoryPlan, plan_memory
from boothline.planning.shapes import ModelShapes

GB = 10**9
CARDS_GB = (8, 12, 16, 24, 40, 80)
"""Memory of common accelerators, in gigabytes."""


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A configuration on the way down, and what it needs.

    Attributes:
        changes: settings changed so far, by dotted name.
        plan: its memory.
    """

    changes: Mapping[str, object] = field(default_factory=dict)
    plan: MemoryPlan


def ladder(config: RunConfig, shapes: ModelShapes, *, device: Device) -> Iterator[Rung]:
    """Yield the configuration as it is, then with one saving more each time.

    What changes the result least comes first; each rung needs less than the one before.
    """
    rung = Rung(plan=plan_memory(config, shapes, device=device))
    yield rung
    for change in _savings(config, device):
        changed = {**rung.changes, **change}
        plan = plan_memory(_with(config, changed), shapes, device=device)
        if plan.total < rung.plan.total:
            rung = Rung(changes=changed, plan=plan)
            yield rung


def _savings(config: RunConfig, device: Device) -> Iterator[dict[str, object]]:
    """Yield what could be changed, in order."""
    training = config.training
    if not training.gradient_checkpointing:
        yield {"training.gradient_checkpointing": True}
    most = training.batch_size // training.num_processes
    if training.accumulation < most:
        yield {"training.accumulation": most}
    if device == "cuda" and training.precision == "fp32":
        yield {"training.precision": "bf16"}
    if training.optimizer == "adamw" and training.method == "full":
        yield {"training.optimizer": "adamw8bit" if device == "cuda" else "adafactor"}
    if training.train_text_encoder:
        yield {"training.train_text_encoder": False}
    if training.method == "full":
        yield {"training.method": "lora", "training.optimizer": "adamw"}


def _with(config: RunConfig, changes: Mapping[str, object]) -> RunConfig:
    """Return the configuration with dotted settings changed."""
    values = config.model_dump()
    for name, value in changes.items():
        section, setting = name.split(".")
        values[section][setting] = value
    return RunConfig.model_validate(values)
