"""Shows a run: a live table on a terminal, plain lines elsewhere."""

import math
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.control import Control
from rich.progress_bar import ProgressBar
from rich.segment import ControlType, Segment, Segments
from rich.table import Table
from rich.text import Text

from boothline.launch.local.events import RunProgress, StepProgress
from boothline.metering import GpuUse

_ERASE_LINE = (ControlType.ERASE_IN_LINE, 2)
_STYLES = {
    "waiting": "dim",
    "running": "cyan",
    "done": "green",
    "reused": "green",
    "failed": "bold red",
    "interrupted": "yellow",
}
_WIDE = 100
"""Columns from which there is room for bars and for the time left of each step."""
_GPU_INTERVAL_SECONDS = 2.0
_GIGABYTE = 1e9


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
    if step.interrupted:
        return "interrupted"
    return "reused" if step.reused else step.state


def counts(step: StepProgress) -> str:
    """Return `12/32 images`, or nothing when the step counts nothing."""
    return f"{step.done}/{step.total} {step.unit}" if step.total else ""


def table_of(
    progress: RunProgress, now: float, *, width: int = _WIDE, gpus: Sequence[GpuUse] = ()
) -> Table:
    """Return the table of a run's steps; the last rows are the run as a whole and the GPUs.

    Args:
        progress: how far the run is.
        now: seconds since the epoch.
        width: columns of the terminal; a narrow one has no bars, and no time left but the run's.
        gpus: what this machine's GPUs do.
    """
    wide = width >= _WIDE
    table = Table(box=None, pad_edge=False)
    for title in ("Step", "Status", *(("",) if wide else ()), "Progress"):
        table.add_column(title, no_wrap=True)
    table.add_column("Note")  # the one that gives way on narrow terminals
    for title in ("Time", "Left") if wide else ("Time",):
        table.add_column(title, justify="right", no_wrap=True, min_width=6)
    for step in progress.steps.values():
        table.add_row(*_row(step, now, wide=wide))
    if total := run_line(progress, now):
        blanks = [Text()] * (3 if wide else 2)
        table.add_row(Text("run", style="bold"), *blanks, Text(total, style="bold"))
    if gpus:
        table.add_row(*map(Text, ("gpu", "", *(("",) if wide else ()), *gpu_cells(gpus))))
    return table


def gpu_cells(gpus: Sequence[GpuUse]) -> tuple[str, str]:
    """Return how busy this machine's GPUs are, and the memory of the fullest."""
    mean = sum(gpu.percent for gpu in gpus) / len(gpus)
    fullest = max(gpus, key=lambda gpu: gpu.used_bytes / gpu.total_bytes)
    memory = f"{fullest.used_bytes / _GIGABYTE:.1f} of {fullest.total_bytes / _GIGABYTE:.1f} GB"
    if len(gpus) == 1:
        return f"{mean:.0f} %", memory
    return f"{mean:.0f} % of {len(gpus)}", f"fullest, {fullest.index}: {memory}"


def _row(step: StepProgress, now: float, *, wide: bool) -> list[Text | ProgressBar]:
    """Return the cells of one step."""
    status, running = status_of(step), step.state == "running"
    seconds = step.seconds(now)
    note = Text(step.note if running else step.remark, no_wrap=True, overflow="ellipsis")
    cells: list[Text | ProgressBar] = [Text(step.name), Text(status, style=_STYLES[status])]
    if wide:
        bar = ProgressBar(total=step.total, completed=step.done, width=12) if step.total else Text()
        cells.append(bar)
    cells += [Text(counts(step)), note, Text(duration(seconds) if seconds else "")]
    if wide:
        cells.append(Text(duration(step.seconds_left(now)) if running else ""))
    return cells


def run_line(progress: RunProgress, now: float) -> str:
    """Return how long the run has taken and about how long it will; empty before it begins."""
    seconds = progress.seconds(now)
    if not seconds:
        return ""
    left, is_whole = progress.seconds_left(now)
    if any(step.state == "failed" for step in progress.steps.values()):
        left = 0.0
    said = f"{'about' if is_whole else 'at least'} {duration(left)} left" if left else ""
    return ", ".join(filter(None, [duration(seconds), said]))


class LiveDisplay:
    """A table that is redrawn in place, also after the terminal changed its width.

    Args:
        console: the terminal.
        clock: seconds since the epoch.
        gpus: says what the GPUs of the run do; by default nothing is known of them.
    """

    def __init__(
        self,
        console: Console,
        *,
        clock: Callable[[], float] = time.time,
        gpus: Callable[[], Sequence[GpuUse]] = tuple,
    ) -> None:
        self._console = console
        self._clock = clock
        self._gpus = gpus
        self._seen: Sequence[GpuUse] = ()
        self._look_at = -math.inf
        self._lengths: list[int] = []
        self._progress: RunProgress | None = None

    def __enter__(self) -> Self:
        """Hide the cursor."""
        self._console.show_cursor(False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the last table on the screen."""
        self._console.show_cursor(True)

    def show(self, progress: RunProgress) -> None:
        """Redraw the table, by one write: a person never sees the moment without it."""
        self._progress = progress
        now = self._clock()
        table = table_of(progress, now, width=self._console.width, gpus=self._gpus_at(now))
        lines = self._console.render_lines(table, pad=False)[: self._console.height - 1]
        drawn = [segment for line in lines for segment in (*line, Segment.line())]
        with self._console:
            self._erase()
            self._console.print(Segments(drawn), soft_wrap=True, end="")
        self._lengths = [sum(segment.cell_length for segment in line) for line in lines]

    def say(self, text: str) -> None:
        """Print a line above the table."""
        with self._console:
            self._erase()
            self._console.print(text, highlight=False, markup=False, style=_style_of(text))
            if self._progress is not None:
                self.show(self._progress)

    def _gpus_at(self, now: float) -> Sequence[GpuUse]:
        """Return what the GPUs do, at most some seconds old; a machine without is asked once."""
        if now >= self._look_at:
            self._seen = self._gpus()
            self._look_at = now + _GPU_INTERVAL_SECONDS if self._seen else math.inf
        return self._seen

    def _erase(self) -> None:
        """Erase the last table: a terminal that became narrower has wrapped its lines."""
        width = max(self._console.width, 1)
        height = sum(max(1, math.ceil(length / width)) for length in self._lengths)
        if height:
            up = ((ControlType.CURSOR_UP, 1), _ERASE_LINE) * height
            self._console.control(Control(_ERASE_LINE, *up, ControlType.CARRIAGE_RETURN))
        self._lengths = []


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
