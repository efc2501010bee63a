"""What the ladder of the memory plan proposes, in which order, and what it leaves out.

The trace is written down here: each setting that saves memory makes its part smaller.
"""

from itertools import pairwise
from typing import Any

import pytest

from boothline.config import RunConfig
from boothline.doctor import libraries
from boothline.planning import ModelShapes, dry_run, memory
from boothline.planning.dry_run import Trace, TracedStep
from boothline.planning.memory import Device, ladder

MIB = 1024 * 1024
SHAPES = ModelShapes(name="not looked at")
OF_FLOAT32 = {"fp32": 1.0, "bf16": 0.5, "fp8": 0.25, "nf4": 0.125}
CHECKPOINTING = {"training.gradient_checkpointing": True}
LOWERED = {"training.method": "lora", "training.precision": "bf16"}
ADAPTERS = {"training.method": "lora", "training.optimizer": "adamw"}


def traced(config: RunConfig, shapes: ModelShapes) -> TracedStep:
    """Stand in for the trace: fewer bytes by every saving."""
    training = config.training
    activations = 64 * MIB if training.gradient_checkpointing else 512 * MIB
    activations //= training.accumulation * (2 if training.precision == "bf16" else 1)
    trained = 1_000_000 if training.method == "lora" else 80_000_000
    weights = 400 * MIB * OF_FLOAT32[training.frozen_precision]
    return TracedStep(
        trace=Trace(kept=[activations]),
        weight_bytes=int(weights / (2 if training.shard_frozen else 1)),
        num_trained=trained + 10_000_000 * training.train_text_encoder,
    )


@pytest.fixture(autouse=True)
def written_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "trace_step", traced)


@pytest.fixture(autouse=True)
def every_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "find_spec", lambda name: object())


def proposed(device: Device = "cuda", **training: Any) -> list[dict[str, object]]:
    """Return what each rung changes more than the one before."""
    settings = {"num_processes": 2, "batch_size": 8, "train_text_encoder": True, **training}
    config = RunConfig.model_validate({"training": settings})
    rungs = [dict(rung.changes) for rung in ladder(config, SHAPES, device=device)]
    assert rungs[0] == {}
    return [
        {name: value for name, value in after.items() if before.get(name, ...) != value}
        for before, after in pairwise(rungs)
    ]


def test_ladder_on_a_gpu_proposes_what_changes_the_result_least_first() -> None:
    assert proposed() == [
        CHECKPOINTING,
        {"training.accumulation": 4},
        {"training.precision": "bf16"},
        {"training.optimizer": "adamw8bit"},
        {"training.train_text_encoder": False},
        ADAPTERS,
        {"training.frozen_precision": "bf16"},
        {"training.shard_frozen": True},
        {"training.frozen_precision": "fp8"},
        # NF4 takes as little as fp8 that is cut for two ranks: no rung.
    ]


def test_ladder_leaves_out_what_would_need_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """NF4 cannot be cut for ranks, and may so take more than fp8 that is."""
    monkeypatch.setitem(OF_FLOAT32, "nf4", 0.2)
    assert proposed()[-1] == {"training.frozen_precision": "fp8"}


def test_ladder_on_a_cpu_lowers_no_precision() -> None:
    assert proposed("cpu") == [
        CHECKPOINTING,
        {"training.accumulation": 4},
        {"training.optimizer": "adafactor"},
        {"training.train_text_encoder": False},
        ADAPTERS,
    ]


@pytest.mark.parametrize(
    ("saved", "left_out"),
    [
        ({"gradient_checkpointing": True}, CHECKPOINTING),
        ({"accumulation": 4}, {"training.accumulation": 4}),
        ({"precision": "bf16"}, {"training.precision": "bf16"}),
        ({"train_text_encoder": False}, {"training.train_text_encoder": False}),
        ({"optimizer": "lion"}, {"training.optimizer": "adamw8bit"}),
        ({"optimizer": "adafactor"}, {"training.optimizer": "adamw8bit"}),
    ],
)
def test_ladder_proposes_nothing_that_is_set_already(
    saved: dict[str, object], left_out: dict[str, object]
) -> None:
    assert left_out in proposed()
    assert left_out not in proposed(**saved)


def test_ladder_goes_to_the_most_pieces_that_a_batch_of_a_rank_has() -> None:
    pieces = [{"training.accumulation": most} for most in (2, 5, 7)]
    assert pieces[0] in proposed(batch_size=4)
    assert pieces[1] in proposed(batch_size=10, accumulation=1)
    assert pieces[2] in proposed(batch_size=7, num_processes=1)
    assert not [one for one in proposed(batch_size=2) if "training.accumulation" in one]
    (pieces_of_8,) = (one for one in proposed() if "training.accumulation" in one)
    assert isinstance(pieces_of_8["training.accumulation"], int)


def test_ladder_of_adapters_leaves_their_optimizer_and_lowers_the_frozen_weights() -> None:
    given = {"method": "lora", "gradient_checkpointing": True, "accumulation": 4}
    rest = proposed(**given, precision="bf16", train_text_encoder=False)
    assert rest == [
        {**LOWERED, "training.frozen_precision": "bf16"},
        {"training.shard_frozen": True},
        {"training.frozen_precision": "fp8"},
    ]


def test_ladder_leaves_the_optimizer_of_adapters_that_finds_its_own_rate() -> None:
    own = {"method": "lora", "optimizer": "prodigy", "learning_rate": 1.0}
    assert "training.optimizer" not in {name for rung in proposed(**own) for name in rung}


@pytest.mark.parametrize("given", ["bf16", "fp8"])
def test_ladder_goes_on_from_the_precision_that_frozen_weights_have(given: str) -> None:
    lowered = {"method": "lora", "precision": "bf16", "frozen_precision": given}
    named = [rung["training.frozen_precision"] for rung in proposed(**lowered, num_processes=1)
             if "training.frozen_precision" in rung]  # fmt: skip
    assert named == {"bf16": ["fp8", "nf4"], "fp8": ["nf4"]}[given]


@pytest.mark.parametrize("alone", [{"num_processes": 1}, {"compile": True}], ids=["rank", "graph"])
def test_ladder_cuts_no_weights_where_they_cannot_be_cut(alone: dict[str, object]) -> None:
    assert proposed(**alone)[-3:] == [
        {"training.frozen_precision": "bf16"},
        {"training.frozen_precision": "fp8"},
        {"training.frozen_precision": "nf4"},
    ]


@pytest.mark.parametrize(("num_gpus", "cuts"), [(1, False), (4, True)])
def test_ladder_counts_the_ranks_of_the_machine_where_nobody_says_how_many(
    monkeypatch: pytest.MonkeyPatch, num_gpus: int, cuts: bool
) -> None:
    monkeypatch.setattr(memory, "num_gpus", lambda: num_gpus)
    names = {name for rung in proposed(num_processes=None) for name in rung}
    assert ("training.shard_frozen" in names) is cuts
