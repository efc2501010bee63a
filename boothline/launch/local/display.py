"""Shows a run: a live table on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from boothline.launch.local.events import RunProgress, StepProgress

_STYLES = {
    "waiting": "dim",
    "running": "cyan",
    "done": "green",
    "reused": "green",
    "failed": "bold red",
}


def duration(seconds: float | None) -> str:
    """Return a duration as people read it: 7.1 s, 3:05, 1:02:03; nothing for None."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _style_of(line: str) -> str | None:
    """Return how a line is printed: a warning in yellow."""
    return "yellow" if line.startswith("Warning:") else None


def status_of(step: StepProgress) -> str:
    """Return the word for a step's state."""
    return "reused" if step.reused else step.state


def counts(step: StepProgress) -> str:
    """Return `12/32 images`, or nothing when the step counts nothing."""
    return f"{step.done}/{step.total} {step.unit}" if step.total else ""


def table_of(progress: RunProgress, now: float) -> Table:
    """Return the table of a run's steps.

    Args:
        progress: how far the run is.
        now: seconds since the epoch.
    """
    table = Table(box=None, pad_edge=False)
    for title in ("Step", "Status", "Progress", ""):
        table.add_column(title, no_wrap=True)
    table.add_column("Note")  # the one that gives way on narrow terminals
    table.add_column("Time", justify="right", no_wrap=True, min_width=6)
    table.add_column("Left", justify="right", no_wrap=True, min_width=6)
    for step in progress.steps.values():
        status = status_of(step)
        running = step.state == "running"
        bar = ProgressBar(total=step.total, completed=step.done, width=12) if step.total else Text()
        seconds = step.seconds(now)
        table.add_row(
            Text(step.name),
            Text(status, style=_STYLES[status]),
            bar,
            Text(counts(step)),
            Text(step.note if running else step.remark, no_wrap=True, overflow="ellipsis"),
            Text(duration(seconds) if seconds else ""),
            Text(duration(step.seconds_left(now)) if running else ""),
        )
    return table


class LiveDisplay:
    """A table that is redrawn in place."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.time) -> None:
        self._console = console
        self._clock = clock
        self._live = Live(console=console, auto_refresh=False, transient=False)

    def __enter__(self) -> Self:
        """Start drawing."""
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the last table on the screen."""
        self._live.stop()

    def show(self, progress: RunProgress) -> None:
        """Redraw the table."""
        self._live.update(table_of(progress, self._clock()), refresh=True)

    def say(self, text: str) -> None:
        """Print a line above the table."""
        self._console.print(text, highlight=False, markup=False, style=_style_of(text))


class PlainDisplay:
    """A line whenever a step changes its state, and for running steps every ten seconds."""

    def __init__(
        self,
        console: Console,
        *,
        clock: Callable[[], float] = time.time,
        interval_seconds: float = 10.0,
    ) -> None:
        self._console = console
        self._clock = clock
        self._interval_seconds = interval_seconds
        self._statuses: dict[str, str] = {}
        self._reasons: dict[str, str] = {}
        self._said_at: dict[str, float] = {}

    def __enter__(self) -> Self:
        """Do nothing: lines need no set-up."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Do nothing."""

    def show(self, progress: RunProgress) -> None:
        """Print the lines that are due."""
        now = self._clock()
        for step in progress.steps.values():
            status = status_of(step)
            changed = status != self._statuses.get(step.name, "waiting")
            due = (
                status == "running"
                and now - self._said_at.get(step.name, now) >= self._interval_seconds
            )
            # A pod may wait for long: why is said once, and again when the reason is another.
            reason = step.remark.partition(": ")[2] if status == "waiting" else ""
            changed = changed or bool(reason and reason != self._reasons.get(step.name))
            if changed or due:
                self._reasons[step.name] = reason
                self._statuses[step.name] = status
                self._said_at[step.name] = now
                self.say(line_of(step, now))

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(
            text, highlight=False, markup=False, soft_wrap=True, style=_style_of(text)
        )


def line_of(step: StepProgress, now: float) -> str:
    """Return one line that says how far a step is."""
    status = status_of(step)
    left = step.seconds_left(now) if status == "running" else None
    parts = [
        counts(step) if status == "running" else "",
        step.note if status == "running" else step.remark,
        duration(step.seconds(now)) if step.seconds(now) >= 0.05 else "",
        f"{duration(left)} left" if left is not None else "",
    ]
    return "  ".join([f"{step.name:<18} {status:<8}", *filter(None, parts)]).rstrip()
