"""A TCP proxy on loopback that delays, throttles, holds, loses, cuts and refuses what passes."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

Matches = Callable[[bytes], bool]
T = TypeVar("T")

_BLOCK = 65536
_PATIENCE_SECONDS = 30.0
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
        reset: cut with a reset instead of an orderly end.
        num_seen: how often it happened.
    """

    matches: Matches
    let_pass_bytes: int = 0
    num_times: int = 1
    lose_request: bool = False
    answer: bytes = b""
    reset: bool = False
    num_seen: int = field(default=0, init=False)

    def takes(self, request: bytes) -> bool:
        """Tell whether it happens to a request, and count it."""
        happens = self.num_seen < self.num_times and self.matches(request)
        self.num_seen += happens
        return happens


class FaultProxy:
    """Passes connections on to an upstream server until told to misbehave.

    All connections are served by one event loop in a thread of its own; the methods may be called
    from any other thread.

    Args:
        upstream: URL of the server, on loopback.
        keeps_host: leave the Host header alone, which signed requests need; otherwise the server
            is told its own address.

    Attributes:
        delay_seconds: each block of an answer comes so much later.
        bytes_per_second: answers are not faster than this; None: no limit.
    """

    def __init__(self, upstream: str, *, keeps_host: bool = True) -> None:
        self.delay_seconds = 0.0
        self.bytes_per_second: float | None = None
        self._upstream = ("127.0.0.1", urlsplit(upstream).port or 80)
        self._keeps_host = keeps_host
        self._fault: Fault | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._port = 0
        self.accept_again()

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
        self._do(self._finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE_SECONDS)
        self._loop.close()

    def inject(self, fault: Fault) -> Fault:
        """Apply a fault to the next matching requests."""
        self._fault = fault
        return fault

    def refuse(self) -> None:
        """Refuse connections and reset those that are open."""
        self._do(self._stop_listening())

    def accept_again(self) -> None:
        """Listen again after `refuse`."""
        self._port = self._do(self._listen())

    def hold(self) -> None:
        """Take connections and requests, but pass none of them on: the server hangs."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def release(self) -> None:
        """Pass on what was held, and all that comes."""
        self._loop.call_soon_threadsafe(self._flowing.set)

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in the event loop and return its outcome."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE_SECONDS)

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        return int(self._server.sockets[0].getsockname()[1])

    async def _stop_listening(self) -> None:
        self._server.close()
        for writer in self._open:
            _cut(writer, reset=True)

    async def _finish(self) -> None:
        """Wait for the end of all connections."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, requests: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            answers, server = await asyncio.open_connection(*self._upstream)
        except OSError:
            _cut(client, reset=True)
            return
        ends = {client, server}
        self._open |= ends
        link = _Link(self, client=client, server=server)
        back = asyncio.create_task(link.pass_answers(answers))
        try:
            await link.pass_requests(requests)
            await back
        finally:
            for writer in ends:
                _cut(writer, reset=False)
            self._open -= ends

    def taken(self, request: bytes) -> Fault | None:
        """Return the fault that happens to a request, if any."""
        return self._fault if self._fault is not None and self._fault.takes(request) else None

    def addressed(self, request: bytes) -> bytes:
        """Return a request with the server's own address in it, where it wants that."""
        if self._keeps_host:
            return request
        ours, theirs = (b"Host: 127.0.0.1:%d" % port for port in (self._port, self._upstream[1]))
        return request.replace(ours, theirs, 1)

    async def flowing(self) -> None:
        """Wait until nothing is held any more."""
        await self._flowing.wait()

    async def dawdle(self, num_bytes: int) -> None:
        """Be as slow as asked."""
        seconds = self.delay_seconds
        if self.bytes_per_second is not None:
            seconds += num_bytes / self.bytes_per_second
        if seconds:
            await asyncio.sleep(seconds)


@dataclass
class _Link:
    """One connection of a client and the one to the server that belongs to it."""

    proxy: FaultProxy
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    fault: Fault | None = None
    bytes_left: int = 0

    async def pass_requests(self, requests: asyncio.StreamReader) -> None:
        """Send on what the client sends, until it ends or is cut off."""
        with contextlib.suppress(OSError):
            while data := await requests.read(_BLOCK):
                fault = self.proxy.taken(data)
                if fault is not None and (fault.lose_request or fault.answer):
                    self.client.write(fault.answer)
                    await self.client.drain()
                    _cut(self.client, reset=fault.reset)
                    break
                if fault is not None:
                    self.fault, self.bytes_left = fault, fault.let_pass_bytes
                await self.proxy.flowing()
                self.server.write(self.proxy.addressed(data))
                await self.server.drain()
        _cut(self.server, reset=False)

    async def pass_answers(self, answers: asyncio.StreamReader) -> None:
        """Send on what the server answers, until it ends or is cut off."""
        with contextlib.suppress(OSError):
            while data := await answers.read(_BLOCK):
                await self.proxy.dawdle(len(data))
                if self.fault is not None:
                    data = data[: self.bytes_left]
                    self.bytes_left -= len(data)
                self.client.write(data)
                await self.client.drain()
                if self.fault is not None and self.bytes_left == 0:
                    break
        _cut(self.client, reset=self.fault is not None and self.fault.reset)


def _cut(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    """End a connection, at once and with a reset, or after what is on its way."""
    if not reset:
        writer.close()
        return
    end: socket.socket | None = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        if end is not None:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
