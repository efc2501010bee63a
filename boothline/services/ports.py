"""TCP ports on loopback: the preferred ones when they are free, the next free block otherwise."""

import socket
from collections.abc import Sequence

from boothline.errors import ServiceError

_STRIDE = 20
_NUM_BLOCKS = 50


def choose(names: Sequence[str], *, first: int, skip_blocks: int = 0) -> dict[str, int]:
    """Return a free port for each name: `first` and those after it, or a block further on.

    Args:
        names: what the ports are for.
        first: number of the first preferred port.
        skip_blocks: how many blocks to leave out (they turned out to be taken after all).

    Raises:
        ServiceError: no block is free.
    """
    for block in range(skip_blocks, _NUM_BLOCKS):
        start = first + block * _STRIDE
        ports = dict(zip(names, range(start, start + len(names)), strict=True))
        if all(is_free(port) for port in ports.values()):
            return ports
    raise ServiceError(
        f"No free ports on 127.0.0.1 from {first} to {first + _NUM_BLOCKS * _STRIDE}.",
        remedy="Stop what listens there; `ss -ltnp` shows it.",
    )


def listen(port: int) -> socket.socket:
    """Return a socket that listens on a TCP port of loopback.

    Raises:
        OSError: the port is taken.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def is_free(port: int) -> bool:
    """Tell whether nothing listens on a TCP port of loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # A closed server's lingering connections do not stop a new one from listening.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
