"""What the events of a run add up to: how far each step is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from boothline.progress import Event, LineTail, label_of

StepState = Literal["waiting", "running", "done", "failed"]
INTERRUPTED = 130


class EventTail:
    """Reads the events that a run folder gains, each once.

    Args:
        run_dir: the run folder.
        since: seconds since the epoch; events before it belong to an earlier attempt.
    """

    def __init__(self, run_dir: Path, *, since: float) -> None:
        self._folder = run_dir / "events"
        self._since = since
        self._tails: dict[Path, LineTail] = {}

    def read(self) -> list[Event]:
        """Return the events since the last call, in the order of time; a torn line waits."""
        events: list[Event] = []
        for path in sorted(self._folder.glob("*.jsonl")):
            lines = self._tails.setdefault(path, LineTail(path)).read()
            events += [Event.model_validate_json(line) for line in lines]
        return sorted((e for e in events if e.time >= self._since), key=lambda event: event.time)


@dataclass
class ShardProgress:
    """How far one step or shard is.

    Attributes:
        state: what it is doing.
        started_at, ended_at: seconds since the epoch; 0 when not yet.
        done, total, unit, note: the last progress it reported.
        remark: what it said that outlasts it.
        first: time and count of the first progress report, from which the speed follows.
        failure: the event that reported its failure.
    """

    state: StepState = "waiting"
    started_at: float = 0.0
    ended_at: float = 0.0
    done: int = 0
    total: int = 0
    unit: str = ""
    note: str = ""
    remark: str = ""
    reused: bool = False
    manifest: str = ""
    first: tuple[float, int] | None = None
    last_time: float = 0.0
    failure: Event | None = None

    def apply(self, event: Event) -> None:
        """Take one event into account."""
        self.last_time = event.time
        match event.kind:
            case "progress":
                self.done, self.total = event.done, event.total
                self.unit, self.note = event.unit, event.note
                self.first = self.first or (event.time, event.done)
            case "remark":
                self.remark = event.remark
            case "done":
                self.state, self.ended_at = "done", event.time
                self.reused, self.manifest = event.reused, event.manifest
            case "failed" if event.run_goes_on:
                self.state, self.ended_at, self.note = "done", event.time, "a trial failed"
            case "failed":
                self.state, self.ended_at, self.failure = "failed", event.time, event
            case "started":
                self.state, self.started_at = "running", event.time

    def seconds_left(self, now: float) -> float | None:
        """Return the seconds that remain at the speed so far; None when unknown or used up."""
        if self.state != "running" or self.first is None or self.done <= self.first[1]:
            return None
        speed = (self.done - self.first[1]) / max(self.last_time - self.first[0], 1e-6)
        end = self.last_time + max(self.total - self.done, 0) / speed
        return end - now if end > now else None


@dataclass
class StepProgress:
    """How far a step is, its shards merged.

    Attributes:
        name: of the step.
        shards: by their numbers.
        before: where an earlier attempt stopped; shown until this one reports.
    """

    name: str
    shards: dict[int | None, ShardProgress] = field(default_factory=dict)
    before: str = ""

    @property
    def state(self) -> StepState:
        """What the step is doing: failed beats running beats done."""
        states = {shard.state for shard in self.shards.values()}
        for state in ("failed", "running", "done"):
            if state in states:
                return state
        return "waiting"

    @property
    def reused(self) -> bool:
        """Whether every shard was reused."""
        return self.state == "done" and all(shard.reused for shard in self.shards.values())

    @property
    def interrupted(self) -> bool:
        """Whether a signal ended it, and nothing else went wrong."""
        failures = [shard.failure for shard in self.shards.values() if shard.failure]
        stopped = all(failure.exit_code == INTERRUPTED for failure in failures)
        return self.state == "failed" and stopped

    @property
    def done(self) -> int:
        """Units done by all shards."""
        return sum(shard.done for shard in self.shards.values())

    @property
    def total(self) -> int:
        """Units of all shards that reported."""
        return sum(shard.total for shard in self.shards.values())

    @property
    def unit(self) -> str:
        """What is counted."""
        return next((shard.unit for shard in self.shards.values() if shard.unit), "")

    @property
    def note(self) -> str:
        """Note of the shard or trial that reported last, with its name where several run."""
        number = max(self.shards, key=lambda n: self.shards[n].last_time, default=None)
        note = self.shards[number].note if self.shards else ""
        if note and sum(shard.state == "running" for shard in self.shards.values()) > 1:
            return f"{label_of(self.name, number)}: {note}"
        return note or ("" if self.total else self.before)

    @property
    def remark(self) -> str:
        """What the first shard with a remark said."""
        return next((shard.remark for shard in self.shards.values() if shard.remark), "")

    def seconds(self, now: float) -> float:
        """Return the seconds from the first start to the last end, or to now."""
        starts = [shard.started_at for shard in self.shards.values() if shard.started_at]
        if not starts:
            return 0.0
        ends = [shard.ended_at for shard in self.shards.values()]
        return (now if self.state == "running" or not all(ends) else max(ends)) - min(starts)

    def seconds_left(self, now: float) -> float | None:
        """Return the seconds until the slowest running shard is done; None when unknown."""
        known = [
            left for shard in self.shards.values() if (left := shard.seconds_left(now)) is not None
        ]
        return max(known, default=None)


class RunProgress:
    """How far a run is.

    Args:
        steps: names of the steps in their order.
        usual: seconds that steps took in an earlier run, by name.
        earlier: events of earlier attempts.
    """

    def __init__(
        self,
        steps: Sequence[str],
        *,
        usual: Mapping[str, float] | None = None,
        earlier: Sequence[Event] = (),
    ) -> None:
        self.steps = {name: StepProgress(name) for name in steps}
        self._usual = dict(usual or {})
        for event in earlier:
            if (
                event.kind == "progress"
                and 0 < event.done < event.total
                and event.step in self.steps
            ):
                unit = event.unit.removesuffix("s")
                self.steps[event.step].before = f"resuming; it was at {unit} {event.done}"

    def seconds(self, now: float) -> float:
        """Return the seconds since the first step of this attempt started; 0 before.

        Between two steps time passes, too: the run is over when its last step is.
        """
        starts = [s.started_at for step in self.steps.values() for s in step.shards.values()]
        first = min(filter(None, starts), default=now)
        ends = [s.ended_at for step in self.steps.values() for s in step.shards.values()]
        is_over = [step.state for step in self.steps.values()][-1:] in (["done"], ["failed"])
        return (max(ends, default=now) if is_over else now) - first

    def seconds_left(self, now: float) -> tuple[float, bool]:
        """Return about how many seconds remain, and whether every step counts in it.

        Of a running step it follows from its speed, of others from an earlier run that made them.
        """
        left, is_whole = 0.0, True
        for step in self.steps.values():
            known = step.seconds_left(now) if step.state == "running" else None
            if known is None and step.state in ("running", "waiting"):
                usual = self._usual.get(step.name)
                known = None if usual is None else max(usual - step.seconds(now), 0.0)
                is_whole = is_whole and known is not None
            left += known or 0.0
        return left, is_whole

    def apply(self, event: Event) -> None:
        """Take one event into account; a step that starts again starts afresh."""
        step = self.steps.setdefault(event.step, StepProgress(event.step))
        if event.kind == "started":
            step.shards[event.shard] = ShardProgress()
        step.shards.setdefault(event.shard, ShardProgress()).apply(event)

    def stop(self, now: float) -> None:
        """Take for interrupted what still runs: it was stopped before it could report so."""
        for step in self.steps.values():
            for shard in step.shards.values():
                if shard.state == "running":
                    shard.state, shard.ended_at = "failed", now

    def saved(self) -> str:
        """Return in words what a stopped training left to resume from; empty: nothing."""
        step = self.steps.get("train")
        if step is None or not step.interrupted or not step.done:
            return ""
        if not any(shard.failure for shard in step.shards.values()):
            return ""  # it did not say so
        return f"training at step {step.done} of {step.total}"

    def first_failure(self) -> Event | None:
        """Return the first failure that a step reported, if any; an interruption counts last."""
        failures = [
            shard.failure
            for step in self.steps.values()
            for shard in step.shards.values()
            if shard.failure
        ]
        return min(failures, key=lambda e: (e.exit_code == INTERRUPTED, e.time), default=None)

    def unfinished(self) -> list[str]:
        """Return the labels of steps and shards that started and never reported an end."""
        return [
            label_of(step.name, number)
            for step in self.steps.values()
            for number, shard in step.shards.items()
            if shard.state == "running"
        ]
