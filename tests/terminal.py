"""What a program shows on a terminal of a given size: run through a pty, read by an emulator."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence

import pyte


def screen(
    command: Sequence[str], *, columns: int, rows: int = 30, variables: Mapping[str, str]
) -> list[str]:
    """Return the lines that stand on the terminal when a program has ended."""
    emulator = pyte.Screen(columns, rows)
    stream = pyte.ByteStream(emulator)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=dict(variables)):
        os.close(theirs)
        while data := _read(ours):
            stream.feed(data)
    os.close(ours)
    return [line.rstrip() for line in emulator.display]


def _read(descriptor: int) -> bytes:
    """Return what was written; nothing when the other end is closed."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""
