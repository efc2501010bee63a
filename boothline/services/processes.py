"""Server processes that outlive the command which started them, each found again by its mark."""

import http.client
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from boothline.processes import end, variable_of

_MARK = "BOOTHLINE_SERVICE"
_PASSED_ON = ("LD_LIBRARY_PATH", "PYTHONPATH")
_MAX_LOG_BYTES = 5 * 2**20
_EXEC_SECONDS = 30.0
_EXEC_POLL_SECONDS = 0.002
_TAIL_BYTES = 64 * 2**10


def start(
    command: Sequence[str],
    *,
    folder: Path,
    log: Path,
    environment: Mapping[str, str],
    listener: socket.socket | None = None,
) -> psutil.Process:
    """Start a server in its own session, marked as ours; `find` sees the mark from then on.

    It inherits no secrets: its environment is only what is given and what programs need to load.

    Args:
        command: program and arguments.
        folder: working folder and home of the server; its path is the mark.
        log: file that its output is appended to.
        environment: further variables.
        listener: socket that the server finds as its standard input; closed here.
    """
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    scratch = folder / "tmp"
    scratch.mkdir(exist_ok=True)
    base = {"PATH": os.defpath, "HOME": str(folder), "TMPDIR": str(scratch), "LANG": "C.UTF-8"}
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(command),
            cwd=folder,
            env=passed_on | base | dict(environment) | {_MARK: str(folder)},
            stdin=subprocess.DEVNULL if listener is None else listener.fileno(),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,
        )
    if listener is not None:
        listener.close()
    server = psutil.Process(process.pid)
    _wait_for_mark(server)
    return server


def _wait_for_mark(server: psutil.Process) -> None:
    """Wait until the environment of a new process can be read, or the process has ended.

    Popen returns as soon as the kernel has closed the pipe between the two, which is before it has
    said where the new program's environment lies: on a busy machine others see none for a while.
    """
    deadline = time.monotonic() + _EXEC_SECONDS
    while not variable_of(server, _MARK) and time.monotonic() < deadline:
        if not server.is_running() or server.status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(_EXEC_POLL_SECONDS)


def find(pid: int, *, folder: Path) -> psutil.Process | None:
    """Return the running server of a folder that has this process id.

    The mark in its environment distinguishes it from any other process that got the id later.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            process.wait(0)
            return None
        return process if variable_of(process, _MARK) == str(folder) else None
    except psutil.Error:
        return None


def find_all(folder: Path) -> list[psutil.Process]:
    """Return every running process that carries the mark of a folder, whatever its id."""
    found = (find(pid, folder=folder) for pid in psutil.pids())
    return [process for process in found if process is not None]


def terminate(process: psutil.Process, *, patience_seconds: float) -> None:
    """Ask a server and its children to end, and kill what is left after a while."""
    end([process, *_children(process)], grace_seconds=patience_seconds)


def listens(process: psutil.Process, ports: Iterable[int]) -> bool:
    """Return whether a process accepts connections on all these TCP ports."""
    try:
        connections = process.net_connections(kind="tcp")
    except psutil.Error:
        return False
    open_ports = {item.laddr.port for item in connections if item.status == psutil.CONN_LISTEN}
    return open_ports.issuperset(ports)


def http_answer(
    port: int, path: str, *, body: str | None = None, timeout_seconds: float = 2.0
) -> bytes | None:
    """Return the body of a 200 answer on loopback, or None for any other answer or none at all.

    Args:
        port: TCP port on 127.0.0.1.
        path: path of the request.
        body: JSON to post; a GET is sent when it is None.
        timeout_seconds: patience for each single network operation.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_seconds)
    try:
        headers = {"Content-Type": "application/json"} if body else {}
        connection.request("POST" if body else "GET", path, body=body, headers=headers)
        response = connection.getresponse()
        data = response.read()
        return data if response.status == http.client.OK else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def rotate(log: Path) -> int:
    """Set a long log file aside and return the length in bytes of the one to append to."""
    log.parent.mkdir(parents=True, exist_ok=True)
    size_bytes = log.stat().st_size if log.exists() else 0
    if size_bytes <= _MAX_LOG_BYTES:
        return size_bytes
    log.replace(log.with_suffix(".old.log"))
    return 0


def tail(log: Path, *, since: int = 0, telling: str = "", num_lines: int = 12) -> str:
    """Return the last lines of a log file; empty when there is none.

    Args:
        log: the file.
        since: leave out what comes before this byte.
        telling: pattern of the lines that say what went wrong; if there are any, only these count.
        num_lines: the most lines to return.
    """
    if not log.exists():
        return ""
    with log.open("rb") as stream:
        stream.seek(max(since, log.stat().st_size - _TAIL_BYTES))
        lines = stream.read().decode("utf-8", errors="replace").splitlines()
    told = [line for line in lines if telling and re.search(telling, line)]
    return "\n".join((told or lines)[-num_lines:])


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []
