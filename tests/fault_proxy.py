"""A TCP proxy on loopback that delays, throttles, loses, cuts and refuses what passes."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

Matches = Callable[[bytes], bool]
_BLOCK = 65536
BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/xml\r\n"
    b"Content-Length: 64\r\nConnection: close\r\n\r\n"
    + b"<Error><Code>SlowDown</Code><Message>busy</Message></Error>".ljust(64)
)


@dataclass
class Fault:
    """What happens to matching requests and their answers.

    Attributes:
        matches: tells from the first bytes of a request whether it is meant.
        let_pass_bytes: how many bytes of the answer arrive before the connection is cut.
        num_times: how often it happens.
        lose_request: cut the connection before the request reaches the server.
        answer: what the client gets instead of the server's answer; the server sees nothing.
    """

    matches: Matches
    let_pass_bytes: int = 0
    num_times: int = 1
    lose_request: bool = False
    answer: bytes = b""
    num_seen: int = field(default=0, init=False)


class FaultProxy:
    """Passes connections on to an upstream server until told to misbehave.

    Args:
        upstream: URL of the server, on loopback.

    Attributes:
        delay_seconds: each block of an answer comes so much later.
        bytes_per_second: answers are not faster than this; None: no limit.
    """

    def __init__(self, upstream: str) -> None:
        self.delay_seconds = 0.0
        self.bytes_per_second: float | None = None
        self._upstream = ("127.0.0.1", urlsplit(upstream).port or 80)
        self._fault: Fault | None = None
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = self._listen(0)
        self._port = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.refuse()

    def inject(self, fault: Fault) -> Fault:
        """Apply a fault to the next matching requests."""
        self._fault = fault
        return fault

    def refuse(self) -> None:
        """Refuse connections and reset those that are open."""
        self._close(self._listener)
        with self._lock:
            for connection in list(self._open):
                self._close(connection)
            self._open.clear()

    def accept_again(self) -> None:
        """Listen again after `refuse`."""
        self._listener = self._listen(self._port)

    def _listen(self, port: int) -> socket.socket:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(64)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._upstream)
        except OSError:
            self._close(client)
            return
        with self._lock:
            self._open |= {client, server}
        budget: list[int | None] = [None]
        pump = threading.Thread(target=self._answers, args=(server, client, budget), daemon=True)
        pump.start()
        with contextlib.suppress(OSError):
            while data := client.recv(_BLOCK):
                fault = self._taken(data)
                if fault is not None and (fault.lose_request or fault.answer):
                    client.sendall(fault.answer)
                    break
                if fault is not None:
                    budget[0] = fault.let_pass_bytes
                server.sendall(data)
        self._close(server)
        pump.join()
        self._close(client)
        with self._lock:
            self._open -= {client, server}

    def _taken(self, data: bytes) -> Fault | None:
        fault = self._fault
        if fault is None or fault.num_seen >= fault.num_times or not fault.matches(data):
            return None
        fault.num_seen += 1
        return fault

    def _answers(
        self, server: socket.socket, client: socket.socket, budget: list[int | None]
    ) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(_BLOCK):
                self._dawdle(len(data))
                if budget[0] is not None:
                    client.sendall(data[: budget[0]])
                    budget[0] -= len(data[: budget[0]])
                    if budget[0] == 0:
                        break
                else:
                    client.sendall(data)
        self._close(client)

    def _dawdle(self, num_bytes: int) -> None:
        """Be as slow as asked."""
        seconds = self.delay_seconds
        if self.bytes_per_second is not None:
            seconds += num_bytes / self.bytes_per_second
        if seconds:
            time.sleep(seconds)

    @staticmethod
    def _close(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()
