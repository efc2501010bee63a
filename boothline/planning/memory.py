"""`plan_memory`: the peak memory of one rank before it starts, part by part; what would save."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from boothline.config import RunConfig
from boothline.config.training import TrainingConfig
from boothline.doctor.libraries import OPTIMIZERS, is_installed
from boothline.planning.shapes import ModelShapes
from boothline.processes import num_gpus

Device = Literal["cpu", "cuda"]

MIB: Final = 2**20
OPTIMIZER_BYTES: Final[Mapping[str, float]] = {
    "adamw": 8.0,
    "adamw8bit": 2.1,
    "adafactor": 0.1,
    "lion": 4.0,
    "prodigy": 16.0,
}
"""Bytes of optimizer state for each trained number, all states float32 except where 8-bit."""

PROCESS_BYTES: Final[Mapping[Device, int]] = {"cpu": 510 * MIB, "cuda": 600 * MIB}
"""What a rank holds beside tensors: on a CPU the interpreter and its libraries (measured, see
docs/memory.md), on a GPU the CUDA context and the libraries' workspaces (not measured)."""


UPLOAD_BYTES: Final = 24 * MIB
"""What the upload of one file holds at most: three parts of 8 MiB at once."""


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """Peak memory of one rank, in bytes.

    Attributes:
        process: interpreter, libraries, context.
        weights: the networks that stay in memory, float32 but for what is frozen and lowered.
        optimizer: its states.
        average: the averaged weights.
        step: activations and gradients where their sum is highest.
        snapshot: the training state that is on its way to the store, and the parts of its files
            that are being sent; on a GPU they lie in host memory and are 0 here.
        num_trained: trained numbers.
    """

    process: int
    weights: int
    optimizer: int
    average: int
    step: int
    snapshot: int
    num_trained: int

    @property
    def total(self) -> int:
        """The predicted peak."""
        parts = (self.process, self.weights, self.optimizer, self.average, self.step, self.snapshot)
        return sum(parts)

    def parts(self) -> dict[str, int]:
        """Return the parts by name, in bytes."""
        names = ("process", "weights", "optimizer", "average", "step", "snapshot")
        return {name: int(getattr(self, name)) for name in names}


def plan_memory(config: RunConfig, shapes: ModelShapes, *, device: Device) -> MemoryPlan:
    """Return the predicted peak memory of one rank.

    The networks are built without memory and one forward pass is traced, so attention, gradient
    checkpointing, precision and adapters count as the real ones do.

    Args:
        config: the run's configuration.
        shapes: sizes of the base model's networks.
        device: what the ranks run on.
    """
    from boothline.planning.dry_run import trace_step

    training = config.training
    traced = trace_step(config, shapes)
    trained_bytes = 4 * traced.num_trained
    optimizer = int(OPTIMIZER_BYTES[training.optimizer] * traced.num_trained)
    average = trained_bytes if training.ema_decay is not None else 0
    step = traced.trace.peak_bytes(gradients_allocated=training.num_ranks() > 1)
    files = (trained_bytes, optimizer, average)
    state = sum(files) + sum(min(size, UPLOAD_BYTES) for size in files)
    return MemoryPlan(
        process=PROCESS_BYTES[device],
        weights=traced.weight_bytes,
        optimizer=optimizer,
        average=average,
        step=step + 2 * traced.trace.largest_tensor_bytes,
        snapshot=state if device == "cpu" else 0,
        num_trained=traced.num_trained,
    )


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
    on_gpus = num_gpus() if device == "cuda" else 0
    ranks = {"training.num_processes": config.training.num_ranks(num_gpus=on_gpus)}
    config = _with(config, ranks)
    rung = Rung(plan=plan_memory(config, shapes, device=device))
    yield rung
    for change in _savings(config, on_gpu=device == "cuda"):
        changed = {**rung.changes, **change}
        plan = plan_memory(_with(config, changed), shapes, device=device)
        if plan.total < rung.plan.total:
            rung = Rung(changes=changed, plan=plan)
            yield rung


def _savings(config: RunConfig, *, on_gpu: bool) -> Iterator[dict[str, object]]:
    """Yield what could be changed, in order; the ladder leaves out what saves nothing."""
    training = config.training
    is_full = training.method == "full"
    yield {"training.gradient_checkpointing": True}
    yield {"training.accumulation": training.batch_size // training.num_ranks()}
    if on_gpu:
        yield {"training.precision": "bf16"}
    if is_full and training.optimizer == "adamw":
        in_8_bits = on_gpu and is_installed(OPTIMIZERS["adamw8bit"])
        yield {"training.optimizer": "adamw8bit" if in_8_bits else "adafactor"}
    yield {"training.train_text_encoder": False}
    if is_full:
        yield {"training.method": "lora", "training.optimizer": "adamw"}
    if on_gpu and training.frozen_precision != "nf4":
        yield from _for_frozen_weights(training)


def _for_frozen_weights(training: TrainingConfig) -> Iterator[dict[str, object]]:
    """Yield how weights beneath adapters could be kept, what rounds them least first."""
    adapted: dict[str, object] = {"training.method": "lora", "training.precision": "bf16"}
    can_shard = training.num_ranks() > 1 and not training.compile
    yield {**adapted, "training.frozen_precision": "bf16"}
    if can_shard:
        yield {**adapted, "training.shard_frozen": True}
    yield {**adapted, "training.frozen_precision": "fp8"}
    if is_installed(OPTIMIZERS["adamw8bit"]):
        whole = {"training.shard_frozen": False} if can_shard or training.shard_frozen else {}
        yield {**adapted, **whole, "training.frozen_precision": "nf4"}


def _with(config: RunConfig, changes: Mapping[str, object]) -> RunConfig:
    """Return the configuration with dotted settings changed."""
    values = config.model_dump()
    for name, value in changes.items():
        section, setting = name.split(".")
        values[section][setting] = value
    return RunConfig.model_validate(values)
