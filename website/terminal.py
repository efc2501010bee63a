"""What a program shows on a terminal of a given size: run through a pty, read by an emulator."""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from itertools import groupby

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

_RGB = re.compile(r"[0-9a-f]{6}")
# A page is shown where no font may be fetched: rich's own frame names one on another host.
_FRAME = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<style>
.{unique_id}-matrix {{ font-family: Menlo, 'DejaVu Sans Mono', monospace;
font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width }}
.{unique_id}-title {{ display: none }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def screen(
    command: Sequence[str], *, columns: int, rows: int = 30, variables: Mapping[str, str]
) -> pyte.Screen:
    """Return the terminal as it stands when a program has ended."""
    emulator = pyte.Screen(columns, rows)
    stream = pyte.ByteStream(emulator)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=dict(variables)):
        os.close(theirs)
        while data := _read(ours):
            stream.feed(data)
    os.close(ours)
    return emulator


def lines_of(shown: pyte.Screen) -> list[str]:
    """Return the lines of a terminal without the blanks at their ends."""
    return [line.rstrip() for line in shown.display]


def svg(shown: pyte.Screen, *, typed: str, replaced: Mapping[str, str]) -> str:
    """Return a terminal as SVG.

    Args:
        shown: the terminal.
        typed: the command, shown above what it printed.
        replaced: texts that are shown as others: the folder of this machine, for one.
    """
    console = Console(width=shown.columns, record=True, file=io.StringIO())
    console.print(Text(f"$ {typed}", style="bold"))
    for number in range(1 + max(n for n, line in enumerate(lines_of(shown)) if line)):
        line = _line(shown, number)
        for old, new in replaced.items():
            if old in line.plain:
                line = Text(line.plain.replace(old, new).rstrip())
        console.print(line, no_wrap=True, overflow="crop", crop=True)
    return console.export_svg(title="", code_format=_FRAME, unique_id="terminal")


def _line(shown: pyte.Screen, number: int) -> Text:
    """Return a line of the terminal with its colours."""
    line = Text()
    cells = [shown.buffer[number][column] for column in range(shown.columns)]
    for (colour, bold), alike in groupby(cells, key=lambda cell: (cell.fg, cell.bold)):
        named = None if colour == "default" else {"brown": "yellow"}.get(colour, colour)
        style = Style(color=f"#{named}" if named and _RGB.fullmatch(named) else named, bold=bold)
        line.append("".join(cell.data for cell in alike), style)
    line.rstrip()
    return line


def _read(descriptor: int) -> bytes:
    """Return what was written; nothing when the other end is closed."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""
