"""Frozen weights sharded over ranks: the bits of whole ones, and states that know no ranks."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from stopping import Killer, ranks

from boothline.config.sampling import SamplingConfig
from boothline.errors import TrainingError
from boothline.settings import Settings
from boothline.store import Store
from boothline.training.job import TrainingJob
from boothline.training.launch import train

pytestmark = [pytest.mark.services, pytest.mark.slow]

JobMaker = Callable[..., TrainingJob]
SETTINGS = {
    "method": "lora",
    "lora": {"rank": 2},
    "learning_rate": 1e-4,
    "train_text_encoder": False,
    "gradient_checkpointing": True,
    "ema_decay": 0.9,
}
UNETS = ("sd1", "sdxl")
OTHERS = ("sdxl", "sd3", "klein", "z_image", "qwen_image")


@pytest.fixture
def family_job(make_job: JobMaker, family_folders: Callable[[str], Path]) -> JobMaker:
    """Return a maker of jobs on the tiny model of a family, with a sampler that it has."""

    def make(name: str, states: str, **training: Any) -> TrainingJob:
        made = make_job(states, **{**SETTINGS, **training})
        config, euler = made.config, {"sampling": SamplingConfig(sampler="euler", num_steps=1)}
        changed = {
            section: getattr(config, section).model_copy(update=euler)
            for section in ("evaluation", "inference", "prior")
        }
        return made.model_copy(
            update={
                "base_model": family_folders(name),
                "config": config.model_copy(update=changed),
            }
        )

    return make


@pytest.fixture
def weights_of(store: Store, tmp_path: Path) -> Callable[[Any], dict[str, Any]]:
    """Return a function that reads the adapters of a training state."""

    def read(ref: Any) -> dict[str, Any]:
        folder = store.fetch(ref, tmp_path / str(ref).rsplit("@", 1)[-1].replace(":", "-"))
        (file,) = folder.glob("*_lora.safetensors")
        return dict(load_file(file))

    return read


def rows_of(job: TrainingJob, file: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (job.folder / file).read_text().splitlines()]


def farthest(one: dict[str, Any], two: dict[str, Any]) -> float:
    assert one.keys() == two.keys()
    return max(float((one[name] - two[name]).abs().max()) for name in one)


@pytest.mark.proves("F57/sharded")
@pytest.mark.parametrize(
    "name",
    ["sd1", "flux", *(pytest.param(name, marks=pytest.mark.matrix) for name in OTHERS)],
)
def test_training_with_shards_ends_where_one_without_ends(
    family_job: JobMaker,
    digests: Callable[[str], dict[str, str]],
    weights_of: Callable[[Any], dict[str, Any]],
    run_here: Callable[..., dict[str, Any]],
    store_settings: Settings,
    name: str,
) -> None:
    """A sheet lies between the steps, and each pass is cut in two.

    Only UNets round otherwise: their skip connections' gradients are added in another order.
    """
    settings = {"num_steps": 4, "accumulation": 2, "sample_every_steps": 2}
    ends = {}
    for shards in (False, True):
        job = family_job(name, f"training/{shards}", world_size=2, shard_frozen=shards, **settings)
        ends[shards] = train(job, settings=store_settings).final_state
    assert farthest(weights_of(ends[True]), weights_of(ends[False])) <= 1e-6
    if name not in UNETS:
        tensors = [
            {path: digest for path, digest in digests(end).items() if path != "state.json"}
            for end in ends.values()
        ]
        assert tensors[0] == tensors[1]
    alone = run_here(family_job(name, "training/alone", shard_frozen=True, **settings))
    assert farthest(weights_of(ends[True]), weights_of(alone["final_state"])) <= 1e-6


@pytest.mark.proves("F57/sharded")
def test_training_with_shards_resumes_on_any_number_of_ranks(
    family_job: JobMaker,
    digests: Callable[[str], dict[str, str]],
    weights_of: Callable[[Any], dict[str, Any]],
    store_settings: Settings,
) -> None:
    """On one rank without them, since nothing is left to share out."""
    settings = {"num_steps": 6, "batch_size": 6}
    sharded = {**settings, "world_size": 2, "shard_frozen": True}
    whole = family_job("flux", "training/whole", **sharded)
    expected = train(whole, settings=store_settings).final_state
    for world_size in (2, 1, 3):
        states = f"training/on-{world_size}"
        cut = family_job("flux", states, **sharded)
        killer = Killer(cut, step=3, victims=slice(None))
        with pytest.raises(TrainingError, match="exited without reporting an error"):
            train(cut, settings=store_settings, on_event=killer)
        assert not ranks(cut)
        changed = {"world_size": world_size, "shard_frozen": world_size > 1}
        resumed = family_job("flux", states, **{**settings, **changed})
        found = train(resumed, settings=store_settings).final_state
        if world_size == 2:
            assert digests(found) == digests(expected)
            assert rows_of(resumed, "curve.jsonl") == rows_of(whole, "curve.jsonl")
        assert farthest(weights_of(found), weights_of(expected)) <= 1e-6


def test_training_with_shards_validates_in_step(
    family_job: JobMaker, store_settings: Settings
) -> None:
    """Three prompts and three pictures do not share out evenly over two ranks."""
    settings = {"num_steps": 2, "validation": {"every_steps": 1, "num_draws": 3}}
    rows = {}
    for shards in (False, True):
        job = family_job(
            "flux", f"training/{shards}", world_size=2, shard_frozen=shards, **settings
        )
        prompts = {"prompts": ("a {subject}", "a {subject} on snow", "{subject} on grass")}
        evaluation = job.config.evaluation.model_copy(update=prompts)
        job = job.model_copy(
            update={"config": job.config.model_copy(update={"evaluation": evaluation})}
        )
        train(job, settings=store_settings)
        rows[shards] = rows_of(job, "validation.jsonl")
    for one, two in zip(rows[True], rows[False], strict=True):
        assert one == pytest.approx(two, abs=1e-6)
