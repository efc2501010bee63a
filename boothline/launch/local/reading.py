"""Logs of steps for people: without what KFP says of itself, and without expected tracebacks."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from boothline.logs import as_text

_OF_KFP = re.compile(
    r"\[KFP Executor [^\]]*\]:? ?(?P<text>.*)"
    r"|\S+ \S+ INFO root Wrote executor output file "  # where a step was forked: by our own format
)
_OURS = re.compile(r"boothline\.errors\.\w+: (?P<message>.*)")
_TRACEBACK = "Traceback (most recent call last):"
_BETWEEN = (
    "During handling of the above exception",
    "The above exception was the direct cause",
)


def readable(text: str) -> str:
    """Return a log as text, without KFP's lines; of an expected error its message is left."""
    kept: list[str] = []
    lines = iter(as_text(text).splitlines())
    for line in lines:
        found = _OF_KFP.match(line)
        if found is None:
            kept.append(line)
        elif (found["text"] or "").rstrip().endswith("executor_input:"):
            for inner in lines:  # a JSON object over many lines
                if inner == "}":
                    break
    return "".join(f"{line}\n" for line in _without_tracebacks(kept))


def _without_tracebacks(lines: list[str]) -> Iterator[str]:
    """Yield lines; what an expected error traced back is replaced by its message."""
    block: list[str] = []
    for line in lines:
        inside = bool(block)
        if line == _TRACEBACK or (inside and _continues(line)):
            block.append(line)
            continue
        if not inside:
            yield line
            continue
        if ours := _OURS.match(line):
            yield f"Error: {ours['message']}"
        else:
            yield from block
            yield line
        block = []
    yield from block


def _continues(line: str) -> bool:
    """Return whether a line is within a traceback, or between two that belong together."""
    return line.startswith(" ") or not line.strip() or line.startswith(_BETWEEN)


def last(text: str, num_lines: int | None) -> str:
    """Return the last lines of a text; None: all."""
    return text if num_lines is None else "\n".join(text.splitlines()[-num_lines:])


def follow(
    paths: Callable[[], list[Path]],
    *,
    is_active: Callable[[], bool],
    wait: Callable[[], object] = lambda: time.sleep(0.5),
) -> Iterator[str]:
    """Yield the lines that logs gain, until nothing writes to them any more.

    Args:
        paths: the logs there are now, asked again and again.
        is_active: whether the run still runs.
        wait: passes the time between two looks.
    """
    offsets: dict[Path, int] = {path: path.stat().st_size for path in paths()}
    shown: Path | None = None
    while True:
        active = is_active()
        for path in paths():
            with path.open("rb") as stream:
                stream.seek(offsets.get(path, 0))
                data = stream.read()
            complete = data[: data.rfind(b"\n") + 1]
            offsets[path] = offsets.get(path, 0) + len(complete)
            text = readable(complete.decode("utf-8", "replace"))
            if text and path != shown:
                shown = path
                yield f"==> {path.stem} <=="
            yield from text.splitlines()
        if not active:
            return
        wait()
