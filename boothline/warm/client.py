"""A process that has loaded the libraries and forks what it is asked to run.

Loading torch, diffusers and transformers takes several seconds of processor time. A local run has
seven steps that need them, and a training starts processes of its own: without this, each would
load them again. The warm process loads them once, runs nothing itself, and starts no thread,
so that a fork of it is equivalent to a new Python that has just imported the same modules.

A request goes over a socket that only descendants of the process's owner have. A connection is the
life of what was started: when its other end closes, the child receives SIGTERM. Children die with
the warm process, and it ends when its owner has ended and no child is left.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

STEP_LIBRARIES = ("kfp", "kfp.dsl.executor", "boothline.steps")
"""Modules whose import loads what every step uses."""

TRACKING_LIBRARIES = ("mlflow",)
"""Modules whose import loads what steps send their figures with."""

TORCH_LIBRARIES = (
    "torch",
    "transformers",
    "diffusers",
    "boothline.training.worker",
    "torch.distributed.launcher.api",
    "boothline.diffusion.sampling",
    "boothline.evaluation.encoders",
)
"""Modules whose import loads what the steps with torch use, the first ones in smaller parts."""

_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/kfd"), Path("/dev/dxg"))
MAX_MESSAGE_BYTES = 64
SOON = "--soon"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a child has to do; the attributes are the arguments of `Warm.start`."""

    module: str
    arguments: list[str]
    env: dict[str, str]
    libraries: list[str]
    folder: str
    leads_session: bool


class Child(Protocol):
    """What is used of a started process; `subprocess.Popen` has it, too."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None:
        """Return the exit status, or None while the process is running."""

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status; raises `subprocess.TimeoutExpired`."""

    def terminate(self) -> None:
        """Send SIGTERM."""


@dataclass(frozen=True)
class Warm:
    """The address of a warm process, for its owner and all that it has started.

    Attributes:
        channel: descriptor of the socket that takes requests.
        pid: process id of the warm process, which is the parent of all that it starts.
    """

    channel: int
    pid: int

    @classmethod
    def of(cls, address: str) -> "Warm | None":
        """Return what `str` has made a text of; None for the empty text."""
        if not address:
            return None
        channel, pid = address.split(":")
        return cls(int(channel), int(pid))

    def __str__(self) -> str:
        """Return the address as a text."""
        return f"{self.channel}:{self.pid}"

    def start(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        libraries: Sequence[str] = (),
        output: int | None = None,
        start_new_session: bool = False,
    ) -> "ForkedChild":
        """Fork a process that runs a module as `python -m MODULE ARGUMENTS` would.

        Args:
            module: name of the module.
            arguments: its arguments.
            env: its whole environment.
            libraries: modules that the warm process imports first, unless it has them.
            output: descriptor that receives stdout and stderr; None: ours.
            start_new_session: whether it leads a session of its own.
        """
        request = Request(
            module=module,
            arguments=list(arguments),
            env=dict(env),
            libraries=list(libraries),
            folder=str(Path.cwd()),
            leads_session=start_new_session,
        )
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        outputs = (1, 2) if output is None else (output, output)
        with theirs, tempfile.TemporaryFile() as file:
            file.write(json.dumps(asdict(request)).encode())
            file.flush()
            with socket.socket(fileno=os.dup(self.channel)) as channel:
                socket.send_fds(channel, [b"."], [theirs.fileno(), file.fileno(), *outputs])
        return ForkedChild(ours, module)


class ForkedChild:
    """A process that the warm process has forked for us.

    Args:
        connection: our end of its life.
        name: what it runs, for messages.

    Raises:
        OSError: the warm process is gone.
    """

    def __init__(self, connection: socket.socket, name: str) -> None:
        self._connection = connection
        self._name = name
        self.returncode: int | None = None
        self.pid = int(self._connection.recv(MAX_MESSAGE_BYTES) or b"0")
        if not self.pid:
            raise ConnectionResetError(f"the process that was to start {name} is gone")

    def poll(self) -> int | None:
        """Return the exit status, or None while the process is running."""
        return self._receive(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status, negative for a signal as `subprocess` has it.

        Raises:
            subprocess.TimeoutExpired: it is still running after `timeout` seconds.
        """
        status = self._receive(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(self._name, timeout or 0.0)
        return status

    def terminate(self) -> None:
        """Send SIGTERM, unless the process has ended."""
        if self.poll() is None:
            self._connection.send(b"%d" % signal.SIGTERM)

    def _receive(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            self._connection.settimeout(timeout)
            try:
                message = self._connection.recv(MAX_MESSAGE_BYTES)
            except (BlockingIOError, TimeoutError):
                return None
            # Closed without an answer: the warm process was killed, and its children with it.
            self.returncode = int(message) if message else -signal.SIGKILL
            self._connection.close()
        return self.returncode


@contextmanager
def warm_process(
    *libraries: str, soon: Sequence[str] = (), has_device: bool | None = None
) -> Iterator[Warm | None]:
    """Start a warm process for as long as the block lasts.

    Yields None where a fork is not equivalent to a new process: on other systems than Linux, and
    with an accelerator, whose driver does not survive a fork.

    Args:
        libraries: modules that it imports at once.
        soon: modules that it imports one by one while nothing is asked of it.
        has_device: whether the machine has an accelerator; None looks for its device files.
    """
    if has_device is None:
        has_device = any(path.exists() for path in _DEVICES)
    if has_device or sys.platform != "linux":
        yield None
        return
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        descriptors = (theirs.fileno(), ours.fileno())
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "boothline.warm.server", *map(str, descriptors)),
                *(*libraries, SOON, *soon),
            ],
            stdin=subprocess.PIPE,
            pass_fds=descriptors,
        )
        theirs.close()
        try:
            yield Warm(ours.fileno(), process.pid)
        finally:
            process.communicate()
