"""Ranks killed again and again at seeded moments: the end is that of an uninterrupted training."""

import json
import random
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file

from boothline.errors import BoothlineError
from boothline.settings import Settings
from boothline.store import Store
from boothline.training.job import TrainingJob
from boothline.training.launch import train

pytestmark = [pytest.mark.services, pytest.mark.faults]

NUM_STEPS = 60
LATEST_KILL = 42  # soon enough that the training cannot end before the blow falls
KILLS_OF_A_CASE = 5
CASES = {
    "full": {"train_text_encoder": True, "accumulation": 1, "world_size": 2},
    "lora-frozen-accumulated": {
        "method": "lora",
        "train_text_encoder": False,
        "accumulation": 3,
        "world_size": 2,
    },
    "full-frozen-accumulated-alone": {
        "train_text_encoder": False,
        "accumulation": 3,
        "world_size": 1,
    },
    "lora-alone": {
        "method": "lora",
        "train_text_encoder": True,
        "accumulation": 1,
        "world_size": 1,
    },
    "lora-masked-alone": {
        "method": "lora",
        "masks": True,
        "caption_dropout": 0.2,
        "horizontal_flip": True,
        "train_text_encoder": False,
        "accumulation": 1,
        "world_size": 1,
    },
    "bf16-checkpointed-alone": {
        "precision": "bf16",
        "gradient_checkpointing": True,
        "accumulation": 1,
        "world_size": 1,
    },
}


class Assassin:
    """Kills one rank or all of them, a seeded while after a seeded step was reported."""

    def __init__(self, job: TrainingJob, *, after_step: int, source: random.Random) -> None:
        self._job = job
        self._after_step = after_step
        self._delay_seconds = source.uniform(0, 0.2)
        self._victims = source.choice((slice(0, 1), slice(1, 2), slice(None)))
        if job.world_size == 1:
            self._victims = slice(None)
        self._timer: threading.Timer | None = None

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "step" and event["step"] >= self._after_step and not self._timer:
            self._timer = threading.Timer(self._delay_seconds, self._strike)
            self._timer.start()

    def _strike(self) -> None:
        for path in sorted(self._job.folder.glob("process-*"))[self._victims]:
            if psutil.pid_exists(int(path.read_text())):
                psutil.Process(int(path.read_text())).send_signal(signal.SIGKILL)

    def join(self) -> None:
        """Wait until nobody is killed any more."""
        if self._timer is not None:
            self._timer.join()


Note = Callable[[str, str], None]
ROW = "training kill matrix"


def kill_while_training(
    make: Callable[[], TrainingJob], *, settings: Settings, num_kills: int, source: random.Random
) -> int:
    """Train and kill, again and again; return how many trainings died of it."""
    kills = 0
    for after_step in sorted(source.sample(range(1, LATEST_KILL), num_kills)):
        job = make()
        assassin = Assassin(job, after_step=after_step, source=source)
        try:
            train(job, settings=settings, on_event=assassin)
        except BoothlineError:
            kills += 1
        assassin.join()
    return kills


@pytest.mark.proves("F42/matrix")
@pytest.mark.parametrize("name", CASES)
def test_training_killed_at_seeded_moments_ends_with_the_same_bits(
    make_job: Callable[..., TrainingJob],
    digests: Callable[[str], dict[str, str]],
    store_settings: Settings,
    measured: Note,
    name: str,
) -> None:
    began = time.monotonic()
    settings: dict[str, Any] = {
        "num_steps": NUM_STEPS, "ema_decay": 0.9, "batch_size": 6, **CASES[name],
    }  # fmt: skip
    whole = make_job("training/whole", **settings)
    expected = train(whole, settings=store_settings)
    kills = kill_while_training(
        lambda: make_job("training/cut", **settings),
        settings=store_settings,
        num_kills=KILLS_OF_A_CASE,
        source=random.Random(name),
    )
    assert kills == KILLS_OF_A_CASE
    last = make_job("training/cut", **settings)
    result = train(last, settings=store_settings)
    ours, theirs = digests(result.final_state), digests(expected.final_state)
    differ = [path for path in ours | theirs if ours.get(path) != theirs.get(path)]
    rows = zip(_curve(last.folder), _curve(whole.folder), strict=True)
    steps = [one["step"] for one, two in rows if one != two]
    assert (differ, steps) == ([], [])
    seconds = time.monotonic() - began
    measured(
        ROW, f"{name}: {kills} kills, {len(differ)} of {len(ours)} files and {len(steps)} of"
        f" {NUM_STEPS} rows of the curve differ ({seconds:.0f} s)",
    )  # fmt: skip


def test_training_of_two_ranks_killed_goes_on_with_one_within_rounding(
    make_job: Callable[..., TrainingJob], store: Store, store_settings: Settings, tmp_path: Path,
    measured: Note,
) -> None:  # fmt: skip
    settings = {"num_steps": NUM_STEPS, "learning_rate": 1e-5}
    whole = train(make_job("training/whole", world_size=2, **settings), settings=store_settings)
    kills = kill_while_training(
        lambda: make_job("training/cut", world_size=2, **settings),
        settings=store_settings,
        num_kills=1,
        source=random.Random("fewer ranks"),
    )
    assert kills == 1
    alone = make_job("training/cut", world_size=1, **settings)
    result = train(alone, settings=store_settings)
    assert [row["step"] for row in _curve(alone.folder)] == list(range(1, NUM_STEPS + 1))
    one, two = (
        _weights(store.fetch(ref, tmp_path / place))
        for place, ref in (("one", result.final_state), ("two", whole.final_state))
    )
    largest = max(float((one[key] - two[key]).abs().max()) for key in one)
    measured(ROW, f"2 -> 1 ranks after {kills} kill: largest difference {largest:.1e}")
    assert largest <= 1e-6


def _weights(state: Path) -> dict[str, Any]:
    """Return the trained weights of a fetched state by name."""
    return {
        f"{name}.{key}": weight
        for name in ("unet", "text_encoder")
        for key, weight in load_file(state / f"{name}.safetensors").items()
    }


def _curve(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
