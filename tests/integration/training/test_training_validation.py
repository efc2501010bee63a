"""Validation in the loop: it changes nothing, picks the best state, and ends a training early."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from boothline.errors import InterruptedRunError
from boothline.store import Store
from boothline.training.denoiser import Denoiser
from boothline.training.job import TrainingJob
from boothline.training.ranks import Requests
from boothline.training.validation import SheetJudge, Validator

pytestmark = pytest.mark.services

JobMaker = Callable[..., TrainingJob]
Runner = Callable[..., dict[str, Any]]
Digests = Callable[[str], dict[str, str]]


class StopAtOnce(Requests):
    """Asks to stop from the first report on."""

    def __init__(self) -> None:
        super().__init__()
        self.stop = True


def rows_of(job: TrainingJob) -> list[dict[str, float]]:
    text = (job.folder / "validation.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that decides the scores of the validations that follow."""

    def decide(*scores: float) -> None:
        left = list(scores)
        monkeypatch.setattr(SheetJudge, "scores", lambda self, pixels: {"score": left.pop(0)})

    return decide


@pytest.mark.proves("F44/best")
def test_validation_measures_and_changes_no_weight(
    make_job: JobMaker, run_here: Runner, digests: Digests
) -> None:
    settings = {"num_steps": 4, "ema_decay": 0.9, "train_text_encoder": False}
    plain = digests(run_here(make_job("training/plain", **settings))["final_state"])
    job = make_job("training/judged", **settings, validation={"every_steps": 3})
    judged = digests(run_here(job)["final_state"])
    for name in ("unet.safetensors", "ema.safetensors", "optimizer.safetensors", "curve.jsonl"):
        assert judged[name] == plain[name]
    rows = rows_of(job)
    assert [row["step"] for row in rows] == [3, 4]
    assert set(rows[0]) == {"step", "instance_loss", "subject", "prompt", "score"}
    for row in rows:
        assert row["score"] == pytest.approx((row["subject"] + row["prompt"]) / 2)
        assert 0.2 < row["instance_loss"] < 5
    assert rows[0]["instance_loss"] != rows[1]["instance_loss"]


def test_validation_stopped_and_resumed_equals_the_uninterrupted(
    make_job: JobMaker, run_here: Runner, digests: Digests
) -> None:
    settings = {
        "num_steps": 5,
        "method": "lora",
        "validation": {"every_steps": 1, "hold_out": 1, "choose": "best", "num_draws": 2},
    }
    whole = make_job("training/whole", **settings)
    expected = run_here(whole)
    with pytest.raises(InterruptedRunError):
        run_here(make_job("training/cut", **settings), StopAtOnce())
    resumed = make_job("training/cut", **settings)
    result = run_here(resumed)
    assert digests(result["final_state"]) == digests(expected["final_state"])
    assert rows_of(resumed) == rows_of(whole)
    assert "held_out_loss" in rows_of(whole)[0]
    assert result["chosen_step"] == expected["chosen_step"]


@pytest.mark.proves("F05/best", "F44/best", "F44/stop")
def test_validation_without_a_better_score_stops_and_keeps_the_best_state(
    make_job: JobMaker, run_here: Runner, store: Store, scored: Callable[..., None]
) -> None:
    validation = {"every_steps": 3, "choose": "best", "patience": 2, "num_draws": 1}
    settings = {"num_steps": 40, "validation": validation}
    scored(0.2, 0.9, 0.5, 0.9)
    result = run_here(make_job(**settings))
    assert (result["chosen_step"], result["last_step"]) == (6, 12)
    assert "step-000006" in result["final_state"]
    states = [int(path[-6:]) for path in store.manifests("training/job/")]
    assert states == [6, 10, 12]
    again = make_job(**settings)
    assert run_here(again) == result
    assert '"event": "step"' not in (again.folder / "events.jsonl").read_text()


@pytest.mark.proves("F05/last")
def test_validation_that_chooses_the_last_publishes_the_last(
    make_job: JobMaker, run_here: Runner, store: Store, scored: Callable[..., None]
) -> None:
    scored(0.9, 0.1, 0.1)
    result = run_here(make_job(validation={"every_steps": 2, "num_draws": 1}))
    assert (result["chosen_step"], result["last_step"]) == (6, 6)
    assert store.manifests("training/job/") == [f"training/job/step-00000{n}" for n in (4, 6)]


@pytest.mark.proves("F15/validation")
@pytest.mark.parametrize("decay", [0.9, None])
def test_validation_looks_at_the_averaged_weights_where_they_are_kept(
    make_job: JobMaker,
    run_here: Runner,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    decay: float | None,
) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    measure = Validator.measure

    def looking(self: Validator, step: int, denoiser: Denoiser, pictures: Any) -> bool:
        seen.append({name: w.detach().clone() for name, w in denoiser.network.named_parameters()})
        return measure(self, step, denoiser, pictures)

    monkeypatch.setattr(Validator, "measure", looking)
    settings = {"num_steps": 3, "ema_decay": decay, "validation": {"every_steps": 3}}
    result = run_here(make_job(**settings))
    state = store.fetch(result["final_state"], tmp_path / "state")
    last = load_file(state / "unet.safetensors")
    kept = {f"unet.{name}": weight for name, weight in last.items()}
    if decay is not None:
        kept = load_file(state / "ema.safetensors")
    (weights,) = seen
    assert all(torch.equal(kept[f"unet.{name}"], weight) for name, weight in weights.items())
    same = all(torch.equal(last[name], weight) for name, weight in weights.items())
    assert same is (decay is None)
