"""Our server processes are told apart from all others."""

import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import psutil
import pytest

from boothline.services import processes

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
IGNORE_TERM = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[psutil.Process]:
    process = processes.start(SLEEP, folder=tmp_path, log=tmp_path / "log", environment={})
    yield process
    processes.terminate(process, patience_seconds=1)


def test_find_own_server_returns_it(server: psutil.Process, tmp_path: Path) -> None:
    assert processes.find(server.pid, folder=tmp_path) == server
    assert processes.find_all(tmp_path) == [server]


def test_find_process_of_another_folder_returns_none(
    server: psutil.Process, tmp_path: Path
) -> None:
    assert processes.find(server.pid, folder=tmp_path / "other") is None


def test_find_foreign_process_with_our_id_returns_none(tmp_path: Path) -> None:
    foreign = subprocess.Popen(SLEEP)
    assert processes.find(foreign.pid, folder=tmp_path) is None
    foreign.kill()
    foreign.wait()


def test_find_killed_server_returns_none(server: psutil.Process, tmp_path: Path) -> None:
    server.kill()
    server.wait(5)
    assert processes.find(server.pid, folder=tmp_path) is None


def test_start_leads_its_own_session_without_our_environment(
    server: psutil.Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOTHLINE_S3_SECRET_KEY", "canary")
    other = processes.start(SLEEP, folder=tmp_path, log=tmp_path / "log", environment={"A": "b"})
    environment = other.environ()
    processes.terminate(other, patience_seconds=1)
    assert "canary" not in environment.values()
    assert environment["A"] == "b"
    assert environment["HOME"] == str(tmp_path)


def test_terminate_stubborn_server_kills_it_and_its_children(tmp_path: Path) -> None:
    process = processes.start(
        [sys.executable, "-c", IGNORE_TERM],
        folder=tmp_path,
        log=tmp_path / "log",
        environment={},
    )
    while not (tmp_path / "log").read_text().endswith("\n"):
        assert process.is_running()
    child = int((tmp_path / "log").read_text())
    processes.terminate(process, patience_seconds=0.3)
    assert not psutil.pid_exists(process.pid)
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_tail_since_leaves_out_older_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert processes.tail(log) == ""
    log.write_text("old\n" * 5)
    offset = processes.rotate(log)
    with log.open("a") as stream:
        stream.write("new 1\nnew 2\n")
    assert processes.tail(log, since=offset) == "new 1\nnew 2"
    assert processes.tail(log, num_lines=3) == "old\nnew 1\nnew 2"
    assert processes.tail(log, telling="^new 1") == "new 1"
    assert processes.tail(log, num_lines=1, telling="^absent") == "new 2"


def test_rotate_long_log_sets_it_aside(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_bytes(b"x" * (6 * 2**20))
    assert processes.rotate(log) == 0
    assert (tmp_path / "x.old.log").exists()
    assert not log.exists()


def test_http_answer_of_a_server_is_its_body() -> None:
    class Echo(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/good" else 500)
            self.end_headers()
            self.wfile.write(b"answer")

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as echo:
        Thread(target=echo.serve_forever, daemon=True).start()
        port = echo.server_port
        assert processes.http_answer(port, "/good") == b"answer"
        assert processes.http_answer(port, "/bad") is None
        echo.shutdown()
    assert processes.http_answer(port, "/good") is None
