"""Prints results, for people or as one JSON object."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from boothline.cli.options import Output

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console

    from boothline.errors import BoothlineError

_PIPE_COLUMNS = 2000
_GAP = 2


def console(*, stderr: bool = False) -> "Console":
    """Return a console on stdout or stderr.

    Into a pipe or a file it wraps nothing, so that a row stays a line, unless COLUMNS says how wide
    it is.
    """
    from rich.console import Console

    piped = not (sys.stderr if stderr else sys.stdout).isatty() and not os.environ.get("COLUMNS")
    width = _PIPE_COLUMNS if piped else None
    return Console(stderr=stderr, highlight=False, emoji=False, width=width)


def is_live(target: "Console") -> bool:
    """Return whether a table can be redrawn in place: on a person's terminal, not in a log of CI.

    A variable such as FORCE_COLOR makes rich take a file for a terminal.
    """
    return target.is_interactive and target.file.isatty() and not os.environ.get("CI")


def emit(
    value: "BaseModel | Mapping[str, object]", output: Output, text: Callable[["Console"], object]
) -> None:
    """Print a result.

    Args:
        value: the result as one JSON object.
        output: how to print it.
        text: prints it for people.
    """
    if output is Output.TEXT:
        text(console())
        return
    plain = value if isinstance(value, Mapping) else value.model_dump(mode="json")
    sys.stdout.write(json.dumps(plain, indent=2, ensure_ascii=False) + "\n")


def say(target: "Console", line: str, *, style: str = "") -> None:
    """Print a line as it is: no markup, no wrapping."""
    target.print(line, style=style or None, markup=False, soft_wrap=True)


def say_table(target: "Console", titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text under titles; what is too wide wraps between words where it can."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    room = target.width - _GAP * (len(titles) - 1)
    for title, width in zip(titles, column_widths([titles, *rows], room), strict=True):
        table.add_column(title, overflow="fold", width=width)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    target.print(table)


def column_widths(rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """Return how many characters wide each column of a table is to be.

    The widest column gives way first, and none below its longest word as long as another can.

    Args:
        rows: the cells, titles included; all rows are equally long.
        room: characters for all columns together.
    """
    columns = list(zip(*rows, strict=True))
    widths = [_longest(line for cell in cells for line in cell.splitlines()) for cells in columns]
    words = [_longest(word for cell in cells for word in cell.split()) for cells in columns]
    while sum(widths) > room and max(widths) > 1:
        spare = [i for i, width in enumerate(widths) if width > words[i]]
        widest = max(spare or range(len(widths)), key=widths.__getitem__)
        widths[widest] -= 1
    return widths


def _longest(texts: Iterable[str]) -> int:
    """Return the cells that the longest of some texts takes; at least 1."""
    from rich.cells import cell_len

    return max((cell_len(text) for text in texts), default=1) or 1


def say_lines(target: "Console", lines: Iterable[str]) -> None:
    """Print lines as they are."""
    for line in lines:
        say(target, line)


def say_error(error: "BoothlineError") -> None:
    """Print an expected error on stderr: what happened, then what to do."""
    target = console(stderr=True)
    say(target, f"Error: {error.message}", style="bold red")
    say_lines(target, (f"  {line}" for line in error.remedy.splitlines()))
