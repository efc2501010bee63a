"""The warm process itself.

`python -m boothline.warm.server SOCKET CHANNEL [LIBRARY ...] --soon [LIBRARY ...]`.
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
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from boothline import settings as environment
from boothline.processes import PARENT_DEATH_SIGNAL, PROCESS_NAME, control
from boothline.warm.client import MAX_MESSAGE_BYTES, SOON, Request

_MALLOPT = {"MALLOC_TRIM_THRESHOLD_": -1, "MALLOC_MMAP_MAX_": -4, "MALLOC_ARENA_MAX": -8}
_INT_MAX = 2**31 - 1
_ENDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _Server:
    """The warm process: forks, and reports to who asked how each child ended.

    Args:
        requests: socket on which requests arrive; its other end is open here too, for those
            children that will ask in turn.
        soon: modules that are imported one by one while nothing is asked.
    """

    def __init__(self, requests: socket.socket, *, soon: Sequence[str] = ()) -> None:
        self._requests = requests
        self._soon = list(soon)
        self._connections: dict[int, socket.socket] = {}
        self._abandoned: set[int] = set()
        self._selector = selectors.DefaultSelector()

    def serve(self) -> Request | None:
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
            for key, _ in self._happened():
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

    def _happened(self) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what has happened; until then, load what is needed soon."""
        while not (events := self._selector.select(timeout=0 if self._soon else None)):
            _load([self._soon.pop(0)])
        return events

    def _fork(self) -> Request | None:
        """Start what was asked for; return the request in the child, None in the parent."""
        _, descriptors, _, _ = socket.recv_fds(self._requests, MAX_MESSAGE_BYTES, 4)
        connection, file = socket.socket(fileno=descriptors[0]), descriptors[1]
        with os.fdopen(file, "rb") as stream:
            stream.seek(0)
            request = Request(**json.load(stream))
        _load(request.libraries)
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
        control(PARENT_DEATH_SIGNAL, signal.SIGKILL)
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
        """Report the children that have ended."""
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
            message = connection.recv(MAX_MESSAGE_BYTES)
        except OSError:
            message = b""
        os.kill(pid, int(message or signal.SIGTERM))
        if not message:
            self._selector.unregister(connection)
            self._abandoned.add(pid)


def _load(libraries: Sequence[str]) -> None:
    """Import modules; what is not installed is named by the step that needs it."""
    for name in libraries:
        with suppress(ImportError):
            importlib.import_module(name)
    if (torch := sys.modules.get("torch")) is not None:
        _renew_thread_pools(torch)


@lru_cache(maxsize=1)
def _renew_thread_pools(torch: ModuleType) -> None:
    """Let each child make torch's pool of threads again while it has one thread only.

    A fork leaves a pool without its threads. torch replaces it at the next use, in whatever thread
    that is, and two threads at once fail there: `pool INTERNAL ASSERT FAILED`. The hook counts for
    the children of children too: torchrun's agent forks the ranks.
    """
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(torch.get_num_threads()))


def _run(request: Request) -> NoReturn:
    """Do in a child what `python -m MODULE` does in a new process."""
    if request.leads_session:
        os.setsid()
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.env)
    _apply_environment()
    control(PROCESS_NAME, request.module.rpartition(".")[2].encode()[:15])
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
    first = libraries.index(SOON)
    _load(libraries[:first])
    soon = libraries[first + 1 :]
    request = _Server(socket.socket(fileno=int(requests)), soon=soon).serve()
    if request is not None:
        _run(request)


if __name__ == "__main__":
    main(sys.argv[1:])
