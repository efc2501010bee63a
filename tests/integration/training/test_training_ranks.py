"""Ranks as real processes under torchrun: equality with one rank, deaths, signals, bad numbers."""

import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from stopping import Killer, ranks

from boothline.errors import InterruptedRunError, NonFiniteLossError, TrainingError
from boothline.settings import Settings
from boothline.store import Store
from boothline.training.job import TrainingJob
from boothline.training.launch import train

pytestmark = [pytest.mark.services, pytest.mark.slow]

JobMaker = Callable[..., TrainingJob]


def curve_of(job: TrainingJob) -> list[dict[str, float]]:
    return [json.loads(line) for line in (job.folder / "curve.jsonl").read_text().splitlines()]


def validations_of(job: TrainingJob) -> list[dict[str, float]]:
    return [json.loads(line) for line in (job.folder / "validation.jsonl").read_text().splitlines()]


@pytest.mark.proves("F11/ranks", "F42/two_ranks")
def test_two_ranks_equal_one_rank_and_survive_kills_bit_for_bit(
    make_job: JobMaker,
    run_here: Callable[..., dict[str, Any]],
    digests: Callable[[str], dict[str, str]],
    store: Store,
    store_settings: Settings,
    tmp_path: Path,
) -> None:
    settings = {"learning_rate": 1e-4, "num_steps": 14, "validation": {"every_steps": 7}}
    whole = make_job("training/whole", world_size=2, **settings)
    expected = train(whole, settings=store_settings)

    single = make_job("training/single", **settings)
    alone = run_here(single)
    one = load_file(store.fetch(alone["final_state"], tmp_path / "one") / "unet.safetensors")
    two = load_file(store.fetch(expected.final_state, tmp_path / "two") / "unet.safetensors")
    assert max(float((one[name] - two[name]).abs().max()) for name in one) <= 1e-6
    for first, second in zip(curve_of(single), curve_of(whole), strict=True):
        assert second == pytest.approx(first, rel=1e-4)
    for first, second in zip(validations_of(single), validations_of(whole), strict=True):
        assert second == pytest.approx(first, abs=1e-3)

    for step, victims in ((4, slice(1, None)), (8, slice(None))):
        cut = make_job("training/cut", world_size=2, **settings)
        killer = Killer(cut, step=step, victims=victims)
        with pytest.raises(TrainingError, match="exited without reporting an error"):
            train(cut, settings=store_settings, on_event=killer)
        assert killer.killed_at is not None
        assert time.monotonic() - killer.killed_at < 30
        assert not ranks(cut)
    resumed = make_job("training/cut", world_size=2, **settings)
    result = train(resumed, settings=store_settings)
    assert digests(result.final_state) == digests(expected.final_state)
    assert curve_of(resumed) == curve_of(whole)
    assert validations_of(resumed) == validations_of(whole)


@pytest.mark.proves("F20/sigterm")
def test_sigterm_commits_a_state_and_says_it_was_interrupted(
    make_job: JobMaker, store: Store, store_settings: Settings
) -> None:
    job = make_job(world_size=2, num_steps=100_000)
    config = job.config.model_copy(
        update={"checkpoints": job.config.checkpoints.model_copy(update={"every_steps": 90_000})}
    )
    stopped: list[float] = []

    def listen(event: Mapping[str, Any]) -> None:
        if event["event"] == "step" and not stopped:
            stopped.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(InterruptedRunError, match="its state is in the store"):
        train(job.model_copy(update={"config": config}), settings=store_settings, on_event=listen)
    assert time.monotonic() - stopped[0] < 25
    assert len(store.manifests("training/job/")) == 1


def test_loss_that_is_not_finite_on_one_rank_stops_both_at_one_step(
    make_job: JobMaker, tiny_pipeline: Path, store: Store, store_settings: Settings, tmp_path: Path
) -> None:
    job = make_job(world_size=2, batch_size=2, num_steps=50)
    job = job.model_copy(update={"base_model": poisoned_base(tiny_pipeline, tmp_path / "base")})
    with pytest.raises(NonFiniteLossError) as caught:
        train(job, settings=store_settings)
    said = [json.loads((job.folder / f"error-{rank}.json").read_text()) for rank in range(2)]
    assert said[0] == said[1]
    assert said[0]["message"] == caught.value.message
    assert not store.manifests("training/job/")


def poisoned_base(source: Path, target: Path) -> Path:
    """Copy a base model and make the embedding of the word `snow` not a number."""
    import shutil

    from transformers import CLIPTokenizer

    shutil.copytree(source, target)
    path = target / "text_encoder/model.safetensors"
    weights = load_file(path)
    name = next(name for name in weights if "token_embedding" in name)
    tokenizer = CLIPTokenizer.from_pretrained(target / "tokenizer")
    weights[name][tokenizer("snow").input_ids[1]] = float("nan")
    save_file(weights, path, metadata={"format": "pt"})
    return target


@pytest.mark.proves("F64/rank", "F64/limit")
def test_training_with_a_stopped_rank_names_it_ends_at_the_limit_and_resumes_to_the_same_bits(
    make_job: JobMaker,
    digests: Callable[[str], dict[str, str]],
    store_settings: Settings,
    measured: Callable[[str, str], None],
) -> None:
    whole = make_job("training/whole", world_size=2)
    expected = train(whole, settings=store_settings)

    job = make_job("training/stopped", world_size=2)
    limits = {"rank_warning_seconds": 3.0, "rank_limit_seconds": 6.0}
    stopped: list[float] = []
    said: list[str] = []

    def stop_rank_1(event: Mapping[str, Any]) -> None:
        if event["event"] == "silent":
            said.append(event["text"])
        if event["event"] == "step" and event["step"] == 3 and not stopped:
            stopped.append(time.monotonic())
            ranks(job)[1].send_signal(signal.SIGSTOP)

    with pytest.raises(TrainingError, match="For 6 s rank 1 did not answer"):
        train(job, settings=store_settings.model_copy(update=limits), on_event=stop_rank_1)
    ended_seconds = time.monotonic() - stopped[0]
    assert ended_seconds < 36
    assert said[0] == "no step for 3 s: rank 1 does not answer"
    assert ranks(job) == []
    again = train(make_job("training/stopped", world_size=2), settings=store_settings)
    assert digests(again.final_state) == digests(expected.final_state)
    measured(
        "stuck rank",
        f"limits of 3 s and 6 s: named, and ended {ended_seconds:.1f} s after the stop; no file of"
        " the final state differs",
    )
