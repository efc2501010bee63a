"""The parts of the memory plan, added up by hand from a trace that is written down here."""

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from boothline.config import RunConfig
from boothline.planning import MemoryPlan, ModelShapes, dry_run, plan_memory
from boothline.planning.dry_run import Trace
from boothline.planning.memory import Device

MIB = 1024 * 1024
NUM_TRAINED = 3_000_000
WEIGHT_BYTES = 70_000_000
TRACE = Trace(kept=[1000, -300, 500], largest_block_bytes=40, largest_tensor_bytes=600)
SHAPES = ModelShapes(name="not looked at")


@pytest.fixture(autouse=True)
def written_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    step = dry_run.TracedStep(trace=TRACE, weight_bytes=WEIGHT_BYTES, num_trained=NUM_TRAINED)
    monkeypatch.setattr(dry_run, "trace_step", lambda config, shapes: step)


def planned(device: Device = "cpu", **training: Any) -> MemoryPlan:
    if training.get("optimizer") == "prodigy":
        training |= {"learning_rate": 1.0, "scale_learning_rate": False}
    config = RunConfig.model_validate({"training": {"num_processes": 1, **training}})
    return plan_memory(config, SHAPES, device=device)


@pytest.mark.parametrize(
    ("optimizer", "bytes_each"),
    [
        ("adamw", 2 * 4),  # two float32 moments
        ("lion", 4),  # one
        ("prodigy", 4 * 4),  # two moments, the start, and the sum of gradients
        ("adamw8bit", 2.1),  # two moments of one byte and a float32 for each block of them
        ("adafactor", 0.1),  # a row and a column
    ],
)
def test_plan_optimizer_has_the_bytes_of_its_states(optimizer: str, bytes_each: float) -> None:
    assert planned(optimizer=optimizer).optimizer == int(NUM_TRAINED * bytes_each)


def test_plan_average_is_one_float32_for_each_trained_number() -> None:
    assert planned(ema_decay=0.99).average == 4 * NUM_TRAINED == 12_000_000
    assert planned().average == 0


def test_plan_step_is_the_traced_peak_and_two_of_the_largest_tensor() -> None:
    # Backwards: 1500 kept; 1000 after the last is freed, 1300 with the gradient; 300 at the end.
    assert planned().step == 1500 + 40 + 2 * 600
    with_buckets = planned(num_processes=2)  # the gradients' memory exists all the time
    assert with_buckets.step == 1500 + 300 + 40 + 2 * 600


def test_plan_snapshot_on_a_cpu_is_the_state_and_24_mib_of_each_file_at_most() -> None:
    # Weights 12 MB, AdamW's states 24 MB, the average 12 MB: each file is below 24 MiB.
    assert planned(ema_decay=0.99).snapshot == 2 * (12_000_000 + 24_000_000 + 12_000_000)
    # Prodigy's 48 MB are above.
    assert planned(optimizer="prodigy").snapshot == 2 * 12_000_000 + 48_000_000 + 24 * MIB


def test_plan_snapshot_on_a_gpu_lies_in_host_memory() -> None:
    assert planned("cuda", ema_decay=0.99).snapshot == 0


@pytest.mark.parametrize(("device", "mib"), [("cpu", 510), ("cuda", 600)])
def test_plan_process_is_the_constant_of_its_device(device: Device, mib: int) -> None:
    assert planned(device).process == mib * MIB


def test_plan_total_is_the_sum_of_its_parts() -> None:
    plan = MemoryPlan(
        process=1, weights=20, optimizer=300, average=4_000, step=50_000, snapshot=600_000,
        num_trained=7_000_000,
    )  # fmt: skip
    assert plan.total == 654_321
    assert plan.parts() == {
        "process": 1, "weights": 20, "optimizer": 300, "average": 4_000, "step": 50_000,
        "snapshot": 600_000,
    }  # fmt: skip


def test_plan_takes_weights_and_trained_numbers_from_the_trace() -> None:
    plan = planned()
    assert (plan.weights, plan.num_trained) == (WEIGHT_BYTES, NUM_TRAINED)


def test_plan_cannot_be_changed_and_names_its_numbers() -> None:
    with pytest.raises(FrozenInstanceError):
        planned().average = 0  # type: ignore[misc]
    with pytest.raises(TypeError, match="positional"):
        MemoryPlan(1, 2, 3, 4, 5, 6, 7)  # type: ignore[misc]
