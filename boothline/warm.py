"""A process that has loaded the libraries and forks what it is asked to run.

Loading torch, diffusers and transformers takes several seconds of processor time. A local run has
seven steps that need them, and a training starts processes of its own: without this, each would
load them again. The warm process loads them once, runs nothing itself, and stays single-threaded,
so that a fork of it is as good as a new Python that has just imported the same modules.

A request goes over a socket that only descendants of the process's owner have. A connection is the
life of what was started: when its other end closes, the child receives SIGTERM. Children die with
the warm process, and it ends when its owner has ended and no child is left.
"""

import atexit
import ctypes
import gc
import importlib
import json
import os
import random
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn, Protocol

from boothline import settings as environment

STEP_LIBRARIES = ("kfp", "kfp.dsl.executor", "boothline.steps")
"""Modules whose import loads what every step uses."""

TORCH_LIBRARIES = (
    "boothline.training.worker",
    "torch.distributed.launcher.api",
    "boothline.diffusion.sampling",
    "boothline.evaluation.encoders",
)
"""Modules whose import loads what the steps with torch use."""

_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/kfd"), Path("/dev/dxg"))
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_MALLOPT = {"MALLOC_TRIM_THRESHOLD_": -1, "MALLOC_MMAP_MAX_": -4, "MALLOC_ARENA_MAX": -8}
_INT_MAX = 2**31 - 1
_MAX_MESSAGE_BYTES = 64
_ENDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, kw_only=True)
class _Request:
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
        request = _Request(
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
        self.pid = int(self._connection.recv(_MAX_MESSAGE_BYTES) or b"0")
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
                message = self._connection.recv(_MAX_MESSAGE_BYTES)
            except (BlockingIOError, TimeoutError):
                return None
            # Closed without a word: the warm process was killed, and its children with it.
            self.returncode = int(message) if message else -signal.SIGKILL
            self._connection.close()
        return self.returncode


@contextmanager
def warm_process(*libraries: str, has_device: bool | None = None) -> Iterator[Warm | None]:
    """Start a warm process for as long as the block lasts.

    Yields None where a fork is not as good as a new process: on other systems than Linux, and with
    an accelerator, whose driver does not survive a fork.

    Args:
        libraries: modules that it imports at once.
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
            [sys.executable, "-m", "boothline.warm", *map(str, descriptors), *libraries],
            stdin=subprocess.PIPE,
            pass_fds=descriptors,
        )
        theirs.close()
        try:
            yield Warm(ours.fileno(), process.pid)
        finally:
            process.communicate()


class _Server:
    """The warm process: forks, and tells who asked how each child ended.

    Args:
        requests: socket on which requests arrive; its other end is open here too, for those
            children that will ask in turn.
    """

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._connections: dict[int, socket.socket] = {}
        self._abandoned: set[int] = set()
        self._selector = selectors.DefaultSelector()

    def serve(self) -> _Request | None:
        """Serve until the owner is gone; in a child, return at once what it has to do."""
        wakes, woken = socket.socketpair()
        for end in (wakes, woken):
            end.setblocking(False)
        signal.set_wakeup_fd(woken.fileno())
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for number in _ENDED:  # a run that is stopped still needs to hear how its steps ended
            signal.signal(number, signal.SIG_IGN)
        owner = sys.stdin.fileno()
        self._selector.register(wakes, selectors.EVENT_READ, "wake")
        self._selector.register(owner, selectors.EVENT_READ, "owner")
        self._selector.register(self._requests, selectors.EVENT_READ, "request")
        has_owner = True
        while has_owner or self._connections:
            for key, _ in self._selector.select():
                if key.data == "request":
                    if (request := self._fork()) is not None:
                        for end in (wakes, woken):
                            end.close()
                        return request
                elif key.data == "owner":
                    has_owner = False
                    self._selector.unregister(owner)
                elif key.data == "wake":
                    wakes.recv(4096)
                    self._reap()
                else:
                    self._signal(key.data)
        return None

    def _fork(self) -> _Request | None:
        """Start what was asked for; return the request in the child, None in the parent."""
        _, descriptors, _, _ = socket.recv_fds(self._requests, _MAX_MESSAGE_BYTES, 4)
        connection, file = socket.socket(fileno=descriptors[0]), descriptors[1]
        with os.fdopen(file, "rb") as stream:
            stream.seek(0)
            request = _Request(**json.load(stream))
        for name in request.libraries:
            importlib.import_module(name)
        gc.freeze()  # a collection in a child would copy the memory that it shares with us
        # What arrives before the child has handlers of its own waits until it has.
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDED)
        server, pid = os.getpid(), os.fork()
        if pid == 0:
            self._become_child(connection, descriptors[2:], server=server)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDED)
            return request
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDED)
        for descriptor in descriptors[2:]:
            os.close(descriptor)
        self._connections[pid] = connection
        self._selector.register(connection, selectors.EVENT_READ, pid)
        try:
            connection.send(b"%d" % pid)
        except OSError:
            self._signal(pid)
        return None

    def _become_child(
        self, connection: socket.socket, outputs: Sequence[int], *, server: int
    ) -> None:
        """Leave behind all that belongs to the warm process alone."""
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != server:
            os._exit(1)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in _ENDED:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._selector.close()
        for ours in (self._requests, connection, *self._connections.values()):
            ours.close()
        with Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        for target, descriptor in enumerate(outputs, start=1):
            os.dup2(descriptor, target)
            os.close(descriptor)

    def _reap(self) -> None:
        """Tell of the children that have ended."""
        for pid in list(self._connections):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                connection = self._connections.pop(pid)
                if pid in self._abandoned:
                    self._abandoned.remove(pid)
                else:
                    self._selector.unregister(connection)
                with suppress(OSError):  # nobody waits for it any more
                    connection.send(b"%d" % os.waitstatus_to_exitcode(status))
                connection.close()

    def _signal(self, pid: int) -> None:
        """Pass a signal on to a child; SIGTERM once who asked for it is gone."""
        connection = self._connections[pid]
        try:
            message = connection.recv(_MAX_MESSAGE_BYTES)
        except OSError:
            message = b""
        os.kill(pid, int(message or signal.SIGTERM))
        if not message:
            self._selector.unregister(connection)
            self._abandoned.add(pid)


def _prctl(option: int, value: int | bytes) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _run(request: _Request) -> NoReturn:
    """Do in a child what `python -m MODULE` does in a new process."""
    if request.leads_session:
        os.setsid()
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.env)
    _apply_environment()
    _prctl(_PR_SET_NAME, request.module.rpartition(".")[2].encode()[:15])
    sys.argv = [request.module, *request.arguments]
    code = 1
    try:
        runpy.run_module(request.module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    finally:
        if (error := sys.exc_info())[0] is not None:
            sys.excepthook(*error)
        _end(code)


def _end(code: int) -> NoReturn:
    """End as Python does, but for taking the modules apart.

    In a fork that would first copy all the memory that they share: seconds for nothing.
    """
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _apply_environment() -> None:
    """Let count what libraries read from the environment only when they are loaded."""
    environment.current.cache_clear()
    tempfile.tempdir = None
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:0] = [path for path in paths if path not in sys.path]
    random.seed()
    libc = ctypes.CDLL(None)
    for name, option in _MALLOPT.items():
        if (value := os.environ.get(name)) is not None:
            libc.mallopt(option, min(int(value), _INT_MAX))
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(threads))


def main(arguments: Sequence[str]) -> None:
    """Serve; a child runs its module here, on the stack of the warm process's main."""
    requests, _, *libraries = arguments
    for name in libraries:
        importlib.import_module(name)
    request = _Server(socket.socket(fileno=int(requests))).serve()
    if request is not None:
        _run(request)


if __name__ == "__main__":
    main(sys.argv[1:])
