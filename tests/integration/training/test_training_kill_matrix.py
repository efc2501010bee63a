"""Ranks killed again and again at seeded moments: the end is that of an uninterrupted training."""

import json
import random
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from boothline.errors import BoothlineError
from boothline.settings import Settings
from boothline.training.job import TrainingJob
from boothline.training.launch import train

pytestmark = [pytest.mark.services, pytest.mark.faults]

NUM_STEPS = 60
KILLS_OF_A_CASE = 10
CASES = [
    {"method": "full", "accumulation": 1, "batch_size": 6},
    {"method": "lora", "accumulation": 3, "batch_size": 6, "train_text_encoder": False},
]


class Assassin:
    """Kills one rank or all of them, a seeded while after a seeded step was reported."""

    def __init__(self, job: TrainingJob, *, after_step: int, source: random.Random) -> None:
        self._job = job
        self._after_step = after_step
        self._delay_seconds = source.uniform(0, 0.2)
        self._victims = source.choice((slice(0, 1), slice(1, 2), slice(None)))
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


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["method"]))
def test_training_killed_at_seeded_moments_ends_with_the_same_bits(
    make_job: Callable[..., TrainingJob],
    digests: Callable[[str], dict[str, str]],
    store_settings: Settings,
    case: dict[str, Any],
) -> None:
    settings = {**case, "num_steps": NUM_STEPS, "ema_decay": 0.9, "world_size": 2}
    whole = make_job("training/whole", **settings)
    expected = train(whole, settings=store_settings)
    source = random.Random(str(case))
    kills = 0
    for after_step in sorted(source.sample(range(1, NUM_STEPS - 1), KILLS_OF_A_CASE)):
        cut = make_job("training/cut", **settings)
        assassin = Assassin(cut, after_step=after_step, source=source)
        try:
            train(cut, settings=store_settings, on_event=assassin)
        except BoothlineError:
            kills += 1
        assassin.join()
    assert kills >= KILLS_OF_A_CASE // 2
    last = make_job("training/cut", **settings)
    result = train(last, settings=store_settings)
    assert digests(result.final_state) == digests(expected.final_state)
    assert _curve(last.folder) == _curve(whole.folder)


def _curve(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
