"""Transfers run at once; the first failure ends them all soon."""

import time
from functools import partial
from threading import Event

import pytest

from boothline.store.transfers import Counter, run_all


def test_run_all_returns_results_in_order() -> None:
    def task(number: int, stop: Event) -> int:
        time.sleep(0.01 * (5 - number))
        return number

    assert run_all([partial(task, number) for number in range(5)]) == [0, 1, 2, 3, 4]


def test_run_all_nothing_returns_nothing() -> None:
    assert run_all([]) == []


def test_run_all_first_failure_stops_the_others() -> None:
    stopped: list[bool] = []
    started: list[bool] = []

    def fail(stop: Event) -> None:
        raise ValueError("first")

    def wait(stop: Event) -> None:
        started.append(True)
        stopped.append(stop.wait(30))

    with pytest.raises(ValueError, match="first"):
        run_all([wait, fail, *[wait] * 20], num_workers=2)
    assert stopped == [True] * len(started)
    assert len(started) < 20


def test_counter_reports_sums() -> None:
    seen: list[tuple[int, int]] = []
    counter = Counter(10, lambda done, total: seen.append((done, total)))
    counter.add(4)
    counter.add(6)
    assert seen == [(4, 10), (10, 10)]
