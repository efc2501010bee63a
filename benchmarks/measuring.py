"""Runs commands side by side and tells their wall-clock time and peak memory."""

import json
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Measurement:
    """What one command took.

    Attributes:
        seconds: wall-clock time from start to exit.
        cpu_seconds: processor time of the command and its descendants, which a busy machine
            changes less.
        peak_bytes: highest proportional set size of the command and all its descendants.
        largest_bytes: highest proportional set size of any one of these processes.
        started: when it was started, in seconds since the epoch.
        output: the last line that it printed.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    largest_bytes: int
    started: float
    output: str


def measure(
    command: Sequence[str], *, environment: Mapping[str, str], limit_seconds: float = 1800
) -> Measurement:
    """Run a command to its end.

    Raises:
        RuntimeError: it failed, with the end of what it printed, or took too long.
    """
    with tempfile.TemporaryFile() as output:
        at, started, spent = time.time(), time.monotonic(), _cpu_seconds()
        process = subprocess.Popen(
            command, env=dict(environment), stdout=output, stderr=subprocess.STDOUT
        )
        peak = largest = 0
        while process.poll() is None:
            sizes = _proportional_bytes(process.pid)
            peak, largest = max(peak, sum(sizes)), max(largest, *sizes, 0)
            if time.monotonic() - started > limit_seconds:
                process.kill()
                process.wait()
            time.sleep(_POLL_SECONDS)
        seconds = time.monotonic() - started
        output.seek(0)
        end = output.read()[-40000:].decode(errors="replace")
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{end}")
    last = end.strip().splitlines()[-1] if end.strip() else ""
    return Measurement(
        seconds=seconds,
        cpu_seconds=_cpu_seconds() - spent,
        peak_bytes=peak,
        largest_bytes=largest,
        started=at,
        output=last,
    )


def _cpu_seconds() -> float:
    """Return the processor time of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _proportional_bytes(pid: int) -> list[int]:
    """Return the memory of a process and of each descendant; shared pages are divided."""
    sizes = []
    try:
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            try:
                sizes.append(process.memory_full_info().pss)
            except psutil.Error:  # ended, or about to
                continue
    except psutil.NoSuchProcess:
        return []
    return sizes


def tell(message: str) -> None:
    """Print a line of progress to stderr."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


def print_table(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    more: Mapping[str, Any] | None = None,
    width: int = 120,
) -> None:
    """Print rows as a table, and at the end of stdout as one line of JSON, for docs/figures.

    Args:
        title: of the table.
        rows: by the names of their columns, the same in each; None stays empty.
        more: what only the JSON has.
        width: of the table, in characters.
    """
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name)
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    Console(width=width).print(table)
    sys.stdout.write(json.dumps(as_kept(title, rows, more=more)) + "\n")


def as_kept(
    title: str, rows: Sequence[Mapping[str, Any]], *, more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what is kept of a table as JSON: its rows, and how they were measured."""
    return {
        "title": title,
        "command": shlex.join(["python", "-m", *sys.orig_argv[2:]]),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        **(more or {}),
        "rows": list(rows),
    }


def middle(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
