"""Two programs that share a GPU take turns: each works only while it is told to, and answers.

`Side` starts a program and gives it orders; `Turns` is what the program calls after each unit of
its work, a step or a picture. Both measure alike: the device is idle when a turn begins and ends.
"""

import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

ROOT: Final = Path(__file__).resolve().parents[1]
_EXIT_SECONDS: Final = 10.0
_REASON_LENGTH: Final = 200
_ERROR_LINE: Final = re.compile(r"^[\w.]*(Error|Exception|Interrupt|Exit)\b")
_SHORT_OF_MEMORY: Final = re.compile(
    r"out of memory|OutOfMemory|ALLOC_FAILED|allocate memory", re.IGNORECASE
)
_TAIL_BYTES: Final = 20_000
_KILLED: Final = -9


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a side does in its turn.

    Attributes:
        untimed: calls that come first and do not count.
        calls: fewest calls that count.
        seconds: shortest time that counts.
        counted: count floating-point operations too, which takes time.
    """

    untimed: int = 0
    calls: int = 1
    seconds: float = 0.0
    counted: bool = False


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a turn took.

    Attributes:
        units: done in it.
        seconds: it took.
        flops: of all its units; 0 where they were not counted.
        peak_bytes: highest memory use of the program so far: what torch allocated on the GPU, or
            of the process on a CPU.
        steps_peak_bytes: the same since the end of the first turn.
        resident_bytes: what is kept between turns.
    """

    units: int
    seconds: float
    flops: int
    peak_bytes: int
    steps_peak_bytes: int
    resident_bytes: int

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.units / self.seconds


class NotMeasuredError(Exception):
    """Something was not measured; the message is the reason."""


class Turns:
    """What a program calls after each unit of its work.

    Args:
        connection: where orders come from and answers go.
        device: that does the work.
    """

    def __init__(self, connection: Connection, *, device: "torch.device") -> None:
        self._connection = connection
        self._device = device
        self._order = Order()
        self._calls = self._units = 0
        self._before = 0
        self._is_first = True
        self._counting = ExitStack()
        self._counter: Any = None
        self._began = 0.0

    def wait(self) -> None:
        """Wait for the next order."""
        self._order = self._connection.recv()
        self._calls = -self._order.untimed
        if self._calls == 0:
            self._begin()

    def __call__(self, units: int = 1) -> None:
        """Note that units of work are done, the first untimed ones aside; answer after the last."""
        self._calls += 1
        if self._calls == 0:
            self._begin()
        if self._calls <= 0:
            return
        self._units += units
        if self._calls < self._order.calls:
            return
        if self._order.seconds and time.monotonic() - self._began < self._order.seconds:
            return
        self._answer()
        self.wait()

    def _begin(self) -> None:
        self._units = 0
        self._synchronise()
        if self._order.counted:
            from torch.utils.flop_counter import FlopCounterMode

            self._counter = self._counting.enter_context(FlopCounterMode(display=False))
        self._began = time.monotonic()

    def _answer(self) -> None:
        """Send what the turn took; memory that is only kept for later goes to the other side."""
        self._counting.close()
        self._synchronise()
        seconds = time.monotonic() - self._began
        flops = self._counter.get_total_flops() if self._counter is not None else 0
        self._counter = None
        now = peak_bytes(self._device)
        if self._device.type == "cuda":
            import torch

            torch.cuda.empty_cache()
        answer = Answer(
            units=self._units,
            seconds=seconds,
            flops=flops,
            peak_bytes=max(self._before, now),
            steps_peak_bytes=now,
            resident_bytes=_resident_bytes(self._device),
        )
        if self._is_first:
            self._is_first, self._before = False, now
            if self._device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
        self._connection.send(answer)

    def _synchronise(self) -> None:
        if self._device.type == "cuda":
            import torch

            torch.cuda.synchronize()


def peak_bytes(device: "torch.device") -> int:
    """Return the highest memory use: what torch allocated on a GPU, or of the process on a CPU."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _resident_bytes(device: "torch.device") -> int:
    """Return the memory that is in use between turns."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.memory_reserved())
    import psutil

    return int(psutil.Process().memory_info().rss)


class Side:
    """A program that takes turns.

    Args:
        command: of the program; the number of its connection is put behind it.
        environment: of the program.
        log: receives what it prints.
    """

    def __init__(
        self, command: Sequence[str], *, environment: Mapping[str, str], log: Path
    ) -> None:
        self._connection, theirs = Pipe()
        self._log = log
        with theirs, log.open("wb") as output:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno())],
                env=dict(environment),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs.fileno(),),
            )

    def ask(self, order: Order, *, until: float) -> Answer:
        """Give an order and return the answer.

        Args:
            order: what to do.
            until: latest time, by `time.monotonic`.

        Raises:
            NotMeasuredError: the program failed, or it is too late.
        """
        answer = self.request(order, until=until)
        assert isinstance(answer, Answer)  # noqa: S101 - a fact for the type checker
        return answer

    def request(self, what: object, *, until: float) -> object:
        """Send something and return what the program sends back; as `ask`."""
        try:
            self._connection.send(what)
        except OSError as error:
            raise NotMeasuredError(self._reason()) from error
        return self.receive(until=until)

    def receive(self, *, until: float) -> object:
        """Return what the program sends next.

        Raises:
            NotMeasuredError: the program failed, or it is too late.
        """
        try:
            if not self._connection.poll(max(0.0, until - time.monotonic())):
                raise NotMeasuredError("out of time")
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise NotMeasuredError(self._reason()) from error

    def close(self) -> None:
        """End the program: what it holds of the GPU is free when this returns."""
        self._process.kill()
        self._process.wait()
        self._connection.close()

    def _reason(self) -> str:
        """Return why the program ended."""
        try:
            code: int | None = self._process.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        with self._log.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL_BYTES))
            tail = stream.read().decode(errors="replace")
        sys.stderr.write("".join(f"  | {line}\n" for line in tail.splitlines()[-30:]))
        return reason_of(tail, code=code)


def reason_of(output: str, *, code: int | None) -> str:
    """Return in a line why a program ended.

    Args:
        output: the end of what it printed.
        code: its exit code.
    """
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR_LINE.match(line)]
    last = (errors or lines or [""])[-1][:_REASON_LENGTH]
    if errors and _SHORT_OF_MEMORY.search(last):
        return f"out of memory: {last}"
    if code == _KILLED:
        return "killed by the system, as it does where its memory runs out"
    return last or f"ended with {code}, without a message"


def connection_of(number: str) -> Connection:
    """Return the connection that a program was started with."""
    return Connection(int(number))
