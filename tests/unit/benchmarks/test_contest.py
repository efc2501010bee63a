"""Ours and the peer on one GPU: in turns, one after the other, and with one of them failing."""

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.contest import OURS, PEER, Contest, Windows, hold
from benchmarks.turns import Answer, NotMeasuredError, Order

GIB = 2**30
TOTAL = 100 * GIB


class Clock:
    """Seconds that pass only when a side works."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Program:
    """Stands in for a side: a step takes `seconds`, and the one after `lasts` steps fails."""

    def __init__(
        self, name: str, clock: Clock, told: list[str], *, seconds: float = 1.0, lasts: int = 10**6,
        error: str = "lost", peak: int = 20 * GIB,
    ) -> None:  # fmt: skip
        self._name, self._clock, self._told = name, clock, told
        self._seconds, self._left, self._error, self._peak = seconds, lasts, error, peak
        self.is_open = True

    def ask(self, order: Order, *, until: float) -> Answer:
        assert self.is_open
        self._told.append(self._name)
        units, took = 0, 0.0
        for call in range(-order.untimed, 10**6):
            if call >= order.calls and took >= order.seconds:
                break
            if not self._left:
                raise NotMeasuredError(self._error)
            self._left -= 1
            self._clock.now += self._seconds
            if self._clock.now > until:
                raise NotMeasuredError("out of time")
            if call >= 0:
                units, took = units + 1, took + self._seconds
        return Answer(
            units=units,
            seconds=took,
            flops=7 * units * order.counted,
            peak_bytes=self._peak,
            steps_peak_bytes=self._peak,
            resident_bytes=self._peak // 2,
        )

    def close(self) -> None:
        if self.is_open:
            self._told.append(f"{self._name} ends")
        self.is_open = False


class Field:
    """Where contests are held; what was told of each side is in order."""

    def __init__(self) -> None:
        self.clock, self.told = Clock(), list[str]()
        self.programs: list[Program] = []

    def start(self, name: str, **settings: Any) -> Callable[[], Program]:
        def started() -> Program:
            self.programs.append(Program(name, self.clock, self.told, **settings))
            return self.programs[-1]

        return started

    def hold(
        self, ours: dict[str, Any], peer: dict[str, Any] | None = None, *, pairs: int = 3,
        limit: float = 10**4,
    ) -> Contest:  # fmt: skip
        starts = {OURS: self.start(OURS, **ours)}
        if peer is not None:
            starts[PEER] = self.start(PEER, **peer)
        windows = Windows(seconds=4.0, pairs=pairs, until=self.clock() + limit, clock=self.clock)
        contest = hold(starts, windows=windows, total_bytes=TOTAL)  # type: ignore[arg-type]
        assert not any(program.is_open for program in self.programs)
        return contest


@pytest.fixture
def field() -> Field:
    return Field()


def test_sides_that_fit_take_turns_and_the_first_changes(field: Field) -> None:
    contest = field.hold({"seconds": 1.0}, {"seconds": 2.0})
    assert list(contest.ratios) == [2.0, 2.0, 2.0]
    assert contest.ratio == 2.0
    begun = [*[OURS] * 3, *[PEER] * 3]
    assert field.told[:12] == [*begun, OURS, PEER, PEER, OURS, OURS, PEER]
    assert not contest.reasons


def test_rates_and_operations_are_those_of_a_unit(field: Field) -> None:
    contest = field.hold({"seconds": 0.5})
    assert contest.sides[OURS].rate == 2.0
    assert contest.sides[OURS].flops == 7
    assert contest.ratio is None


def test_peer_begins_after_ours_has_ended_where_both_do_not_fit(field: Field) -> None:
    contest = field.hold({"peak": 41 * GIB, "seconds": 1.0}, {"seconds": 3.0})
    assert field.told.index("ours ends") < field.told.index(PEER)
    assert contest.ratios == []
    assert contest.ratio == 3.0
    assert [len(side.turns) for side in contest.sides.values()] == [3, 3]


def test_peer_that_fails_at_its_start_leaves_ours_with_all_its_turns(field: Field) -> None:
    contest = field.hold({}, {"lasts": 0, "error": "out of memory: CUDA"})
    assert len(contest.sides[OURS].turns) == 3
    assert contest.sides[PEER].rate is None
    assert contest.ratio is None
    assert contest.reasons == "peer: out of memory: CUDA"


def test_ours_that_fails_at_its_start_leaves_the_peer_measured(field: Field) -> None:
    contest = field.hold({"lasts": 1}, {})
    assert contest.sides[OURS].rate is None
    assert len(contest.sides[PEER].turns) == 3
    assert contest.reasons == "ours: lost"


@pytest.mark.parametrize("failing", [OURS, PEER])
def test_side_that_fails_among_the_pairs_keeps_what_it_has(field: Field, failing: str) -> None:
    # Two warm steps, a counted one, the first turn and one pair of five each, a part of the next.
    settings: dict[str, dict[str, Any]] = {OURS: {}, PEER: {}, failing: {"lasts": 15}}
    contest = field.hold(settings[OURS], settings[PEER])
    assert list(contest.ratios) == [1.0]
    assert len(contest.sides[failing].turns) == 2
    assert contest.reasons == f"{failing}: lost"


def test_contest_that_is_interrupted_ends_the_programs_of_both(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Program, order: Order, *, until: float) -> Answer:
        raise KeyboardInterrupt

    monkeypatch.setattr(Program, "ask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        field.hold({}, {})
    assert [program.is_open for program in field.programs] == [False, False]


def test_pairs_that_would_end_too_late_are_not_begun(field: Field) -> None:
    # Eight steps of each to begin with, then ten a pair.
    contest = field.hold({}, {}, pairs=50, limit=40)
    assert len(contest.ratios) == 2
    assert not contest.reasons


def test_side_that_is_too_slow_is_out_of_time(field: Field) -> None:
    contest = field.hold({"seconds": 30.0}, {}, limit=50)
    assert contest.reasons == "ours: out of time; peer: out of time"
