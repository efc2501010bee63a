"""Ours against the peer on one GPU: in turns where both fit, one after the other where not."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.measuring import middle, tell
from benchmarks.turns import Answer, NotMeasuredError, Order, Side

OURS: Final = "ours"
PEER: Final = "peer"
_WARM: Final = Order(calls=2)
_COUNTED: Final = Order(counted=True)


@dataclass(frozen=True, kw_only=True)
class Windows:
    """How long is measured.

    Attributes:
        seconds: shortest time of a turn.
        pairs: turns of each side.
        until: latest time, by the clock.
        clock: seconds.
    """

    seconds: float
    pairs: int
    until: float
    clock: Callable[[], float] = time.monotonic

    @property
    def order(self) -> Order:
        """A turn: one call that does not count, since the memory comes back with it."""
        return Order(untimed=1, seconds=self.seconds)


@dataclass
class Findings:
    """What was found of a side.

    Attributes:
        turns: its timed turns, in order.
        flops: floating-point operations of a unit; 0: not counted.
        reason: why something of it was not measured; empty: all was.
    """

    turns: list[Answer] = field(default_factory=list)
    flops: float = 0.0
    reason: str = ""

    @property
    def rate(self) -> float | None:
        """Units a second; None: not measured."""
        return middle([turn.rate for turn in self.turns]) if self.turns else None

    @property
    def peak_bytes(self) -> int | None:
        """Highest memory use from the start on."""
        return max((turn.peak_bytes for turn in self.turns), default=None)

    def as_kept(self) -> dict[str, Any]:
        """Return all that was found, as JSON."""
        return {
            "rates": [turn.rate for turn in self.turns],
            "flops per unit": self.flops,
            "peak bytes": self.peak_bytes,
            "peak bytes after the first steps": max(
                (turn.steps_peak_bytes for turn in self.turns), default=None
            ),
            "not measured": self.reason,
        }


@dataclass(frozen=True, kw_only=True)
class Contest:
    """What was found of both sides.

    Attributes:
        sides: by name.
        ratios: of our rate to the peer's, pair by pair; none where they did not take turns.
    """

    sides: Mapping[str, Findings]
    ratios: Sequence[float] = ()

    @property
    def ratio(self) -> float | None:
        """Our rate over the peer's; None: one is missing."""
        if self.ratios:
            return middle(self.ratios)
        rates = [side.rate for side in self.sides.values()]
        if len(rates) < 2 or None in rates:
            return None
        ours, peer = (rate for rate in rates if rate is not None)
        return ours / peer

    @property
    def reasons(self) -> str:
        """What was not measured, and why; empty: nothing."""
        told = [f"{name}: {side.reason}" for name, side in self.sides.items() if side.reason]
        return "; ".join(told)


def hold(
    starts: Mapping[str, Callable[[], Side]], *, windows: Windows, total_bytes: int
) -> Contest:
    """Measure ours, and the peer if there is one.

    Both are loaded at the same time, and take turns, where the device has room for ours as it waits
    and twice what it takes at work. Else ours ends before the peer begins.

    The programs of both start at once, and wait until it is their turn to load the model.

    Args:
        starts: starts each side by its name, ours first.
        windows: how long.
        total_bytes: memory of the device.
    """
    found = {name: Findings() for name in starts}
    running: dict[str, Side] = {}
    ratios: list[float] = []
    started = {name: start() for name, start in starts.items()}
    try:
        for name, side in started.items():
            running[name] = side
            _begin(name, running, found[name], windows)
            if name == OURS and not _leaves_room(found[OURS], total_bytes):
                _alone(name, running, found[name], windows)
        if set(running) == {OURS, PEER}:
            ratios = _in_turns(running, found, windows)
        for name in list(running):
            _alone(name, running, found[name], windows)
    finally:
        for side in started.values():
            side.close()
    return Contest(sides=found, ratios=ratios)


def _begin(name: str, running: dict[str, Side], found: Findings, windows: Windows) -> None:
    """Let a side load, and take its first turn, so that there is a figure whatever follows."""
    side = running[name]
    try:
        side.ask(_WARM, until=windows.until)
        counted = side.ask(_COUNTED, until=windows.until)
        found.flops = counted.flops / counted.units
        found.turns.append(side.ask(windows.order, until=windows.until))
    except NotMeasuredError as reason:
        _give_up(name, running, found, reason)


def _leaves_room(ours: Findings, total_bytes: int) -> bool:
    """Return whether the peer, of whom nothing is known yet, surely fits next to ours."""
    if not ours.turns:
        return True
    last = ours.turns[-1]
    return last.resident_bytes + 2 * last.peak_bytes <= total_bytes


def _alone(name: str, running: dict[str, Side], found: Findings, windows: Windows) -> None:
    """Take what is missing of a side's turns, and end it."""
    if name not in running:
        return
    try:
        while len(found.turns) < windows.pairs and _has_time(found.turns[-1:], windows):
            found.turns.append(running[name].ask(windows.order, until=windows.until))
    except NotMeasuredError as reason:
        _give_up(name, running, found, reason)
    else:
        running.pop(name).close()


def _in_turns(
    running: dict[str, Side], found: Mapping[str, Findings], windows: Windows
) -> list[float]:
    """Take turns and return the ratios of the pairs; who begins changes from pair to pair."""
    ratios: list[float] = []
    latest = [findings.turns[-1] for findings in found.values()]
    while len(ratios) < windows.pairs and _has_time(latest, windows):
        pair: dict[str, Answer] = {}
        for name in (OURS, PEER) if len(ratios) % 2 == 0 else (PEER, OURS):
            try:
                pair[name] = running[name].ask(windows.order, until=windows.until)
            except NotMeasuredError as reason:
                _give_up(name, running, found[name], reason)
                return ratios
            found[name].turns.append(pair[name])
        ratios.append(pair[OURS].rate / pair[PEER].rate)
        latest = list(pair.values())
    return ratios


def _has_time(latest: Sequence[Answer], windows: Windows) -> bool:
    """Return whether turns like the latest end in time; each is longer by an untimed call."""
    needed = sum(turn.seconds * (1 + 1 / max(turn.units, 1)) for turn in latest)
    return windows.clock() + needed < windows.until


def _give_up(
    name: str, running: dict[str, Side], found: Findings, reason: NotMeasuredError
) -> None:
    found.reason = str(reason)
    tell(f"{name}: {reason}")
    running.pop(name).close()
