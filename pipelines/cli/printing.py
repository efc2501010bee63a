"""Prints results, for people or as one JSON object."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pipelines.cli.options import Output

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console

    from boothline.errors import BoothlineError


def console(*, stderr: bool = False) -> "Console":
    """Return a console on stdout or stderr."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, emoji=False)


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
    """Print rows of text under titles."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    target.print(table)


def say_lines(target: "Console", lines: Iterable[str]) -> None:
    """Print lines as they are."""
    for line in lines:
        say(target, line)


def say_error(error: "BoothlineError") -> None:
    """Print an expected error on stderr: what happened, then what to do."""
    target = console(stderr=True)
    say(target, f"Error: {error.message}", style="bold red")
    say_lines(target, (f"  {line}" for line in error.remedy.splitlines()))
