"""Ports are free ones, the preferred ones if possible."""

import socket
from collections.abc import Iterator

import pytest

from boothline.services import endpoints

FIRST = 21350


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(("127.0.0.1", 0))
        opened.listen(1)
        yield opened


def test_is_free_taken_port_is_not(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    assert not endpoints.is_free(port)
    listener.close()
    assert endpoints.is_free(port)


def test_listen_holds_the_port_against_others() -> None:
    port = endpoints.choose(["a"], first=FIRST)["a"]
    with endpoints.listen(port):
        assert not endpoints.is_free(port)
        with pytest.raises(OSError, match="in use"):
            endpoints.listen(port)


def test_choose_free_block_returns_the_preferred_ports() -> None:
    chosen = endpoints.choose(["a", "b"], first=FIRST)
    assert chosen["b"] == chosen["a"] + 1
    assert (chosen["a"] - FIRST) % 20 == 0


def test_choose_taken_block_returns_the_next(listener: socket.socket) -> None:
    taken = listener.getsockname()[1]
    chosen = endpoints.choose(["a", "b"], first=taken - 1)
    assert chosen["a"] >= taken - 1 + 20


def test_choose_skipping_blocks_starts_further_on() -> None:
    assert endpoints.choose(["a"], first=FIRST, skip_blocks=2)["a"] >= FIRST + 40
