"""What is reported of a step: its losses, and how long it took."""

import json
from pathlib import Path

import pytest
import torch

from boothline.errors import NonFiniteLossError
from boothline.training.ranks import Ranks, Requests
from boothline.training.reporting import EventLog, Exchange


class HandClock:
    """Shows the time it is set to."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_step_speed_counts_the_step_and_not_what_is_done_around_it(tmp_path: Path) -> None:
    clock = HandClock()
    exchange = Exchange(ranks=Ranks(), half_size=4, requests=Requests(), clock=clock)
    events = EventLog(tmp_path / "events.jsonl", images_per_step=8)
    for step, idle in ((1, 0.0), (2, 30.0), (3, 0.0)):
        exchange.begin()
        clock.seconds += 2.0
        exchange.post(
            step,
            sums=torch.tensor([4.0, 8.0], dtype=torch.float64),
            grad_norm=torch.tensor(1.0),
            learning_rate=1e-4,
        )
        clock.seconds += idle  # a sheet or a state, and then a report that is read late
        report = exchange.collect()
        assert report is not None
        events.step(report)
    rows = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [row["images_per_second"] for row in rows] == [4.0, 4.0, 4.0]


def test_report_row_holds_no_times(tmp_path: Path) -> None:
    exchange = Exchange(ranks=Ranks(), half_size=4, requests=Requests())
    exchange.begin()
    sums = torch.tensor([4.0, 8.0], dtype=torch.float64)
    exchange.post(1, sums=sums, grad_norm=torch.tensor(1.0), learning_rate=1e-4)
    report = exchange.collect()
    assert report is not None
    assert report.row == {
        "step": 1,
        "instance_loss": 1.0,
        "prior_loss": 2.0,
        "learning_rate": 1e-4,
        "grad_norm": 1.0,
    }


def posted(exchange: Exchange, *, loss: float = 4.0, grad_norm: float = 1.0) -> Exchange:
    """Hand in a step."""
    exchange.begin()
    sums = torch.tensor([loss, 8.0], dtype=torch.float64)
    exchange.post(3, sums=sums, grad_norm=torch.tensor(grad_norm), learning_rate=1e-4)
    return exchange


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"loss": float("nan")}, "loss became nan .instance. and 2.0 .prior. in step 3"),
        ({"grad_norm": float("inf")}, "norm of the gradient became inf in step 3"),
    ],
)
def test_step_with_a_loss_or_gradient_that_is_not_finite_is_refused(values, what) -> None:
    exchange = Exchange(ranks=Ranks(), half_size=4, requests=Requests())
    with pytest.raises(NonFiniteLossError, match=what):
        posted(exchange, **values).collect()


def test_step_that_a_loss_scaler_skips_goes_on_unless_the_loss_is_not_finite() -> None:
    exchange = Exchange(ranks=Ranks(), half_size=4, requests=Requests(), scaled=True)
    report = posted(exchange, grad_norm=float("inf")).collect()
    assert report is not None
    assert report.grad_norm == float("inf")
    with pytest.raises(NonFiniteLossError, match="loss became inf"):
        posted(exchange, loss=float("inf")).collect()


def test_state_is_asked_for_by_age_and_once() -> None:
    clock = HandClock()
    clock.seconds = 0.0
    requests = Requests(save_every_seconds=300.0, clock=clock)
    exchange = Exchange(ranks=Ranks(), half_size=4, requests=requests)
    seen = []
    for seconds in (0.0, 299.0, 300.0, 301.0, 500.0, 700.0, 801.0):
        clock.seconds = seconds
        if seconds == 500.0:
            requests.state_saved()  # by steps: the age counts from here
        exchange.post(
            1,
            sums=torch.tensor([4.0, 8.0], dtype=torch.float64),
            grad_norm=torch.tensor(1.0),
            learning_rate=1e-4,
        )
        report = exchange.collect()
        assert report is not None
        seen.append(report.save)
    assert seen == [False, False, True, False, False, False, True]


def test_state_by_age_is_switched_off_by_zero() -> None:
    clock = HandClock()
    requests = Requests(clock=clock)
    clock.seconds = 1e9
    assert not requests.take_save()
    requests.save = True
    assert requests.take_save()
    assert not requests.take_save()
