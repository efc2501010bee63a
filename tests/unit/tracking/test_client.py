"""Requests to MLflow without its library: what is sent, and what becomes of errors."""

import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from boothline.errors import TrackingError
from boothline.tracking.client import (
    Client,
    MissingError,
    RejectedError,
    listed,
    point,
)


class Server(ThreadingHTTPServer):
    """Answers each request with the next of its answers, the last one again and again."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, bytes]] = [(200, b"{}")]
        self.received: list[tuple[str, dict[str, Any]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.received.append((self.path, json.loads(body or b"{}")))
        answers = self.server.answers
        status, text = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Client:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")  # an address, no credentials
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    return Client(server.url)


def test_log_batch_sends_no_more_at_once_than_mlflow_takes(server: Server, client: Client) -> None:
    client.log_batch(
        "r",
        params=listed({f"p{n}": "1" for n in range(250)}),
        tags=listed({f"t{n}": "1" for n in range(20)}),
        metrics=[point("loss", float(n), 1, n) for n in range(2500)],
    )
    bodies = [body for path, body in server.received if path.endswith("/runs/log-batch")]
    sizes = [tuple(len(body[part]) for part in ("params", "tags", "metrics")) for body in bodies]
    assert sizes == [(100, 20, 880), (100, 0, 900), (50, 0, 720)]
    assert [point["step"] for body in bodies for point in body["metrics"]] == list(range(2500))


def test_log_batch_without_values_sends_nothing(server: Server, client: Client) -> None:
    client.log_batch("r")
    assert server.received == []


def test_numbers_that_json_lacks_are_sent_by_their_names(server: Server, client: Client) -> None:
    values = (math.nan, math.inf, -math.inf, 0.5)
    client.log_batch("r", metrics=[point("loss", value, 1) for value in values])
    (_, body), = server.received  # fmt: skip
    assert [point["value"] for point in body["metrics"]] == ["NaN", "Infinity", "-Infinity", 0.5]


@pytest.mark.parametrize(
    ("status", "answer", "kind"),
    [
        (404, b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no run r"}', MissingError),
        (400, b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "no run r"}', RejectedError),
        (404, b"<html>no run r</html>", TrackingError),
        (200, b"<html>no run r</html>", TrackingError),
        (503, b"no run r", TrackingError),
    ],
)
def test_answer_that_is_an_error_becomes_our_own(
    server: Server, client: Client, status: int, answer: bytes, kind: type[TrackingError]
) -> None:
    server.answers = [(status, answer)]
    said = r"MLflow did not show run r: .*(no run r|a web page)"
    with pytest.raises(TrackingError, match=said) as caught:
        client.run("r")
    assert type(caught.value) is kind


def test_request_that_a_busy_server_did_not_take_is_sent_once_more(
    server: Server, client: Client
) -> None:
    server.answers = [(503, b"busy"), (200, b"{}")]
    client.post("runs/delete", to="delete run r", run_id="r")
    assert [path for path, _ in server.received] == ["/api/2.0/mlflow/runs/delete"] * 2


def test_server_that_is_gone_is_an_error_of_ours(client: Client, server: Server) -> None:
    server.server_close()
    with pytest.raises(TrackingError, match="MLflow did not show run r"):
        client.run("r")


class Library:
    """Keeps what MLflow's own client would be given."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def log_artifacts(self, run_id: str, folder: str) -> None:
        paths = [path for path in Path(folder).rglob("*") if path.is_file()]
        self.files |= {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_artifacts_kept_elsewhere_are_sent_by_mlflows_own_client(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = {"run_id": "r", "artifact_uri": "s3://bucket/r/artifacts"}
    server.answers = [(200, json.dumps({"run": {"info": info}}).encode())]
    library = Library()
    monkeypatch.setattr(client, "library", lambda: library)
    files = {"report/report.html": b"<p>", "sheet.png": b"png"}
    client.log_files("r", files)
    assert library.files == files
    assert {path.partition("?")[0] for path, _ in server.received} == {"/api/2.0/mlflow/runs/get"}


def test_place_of_the_files_of_a_run_that_was_just_made_is_not_asked_for(
    server: Server, client: Client
) -> None:
    info = {"run_id": "r", "artifact_uri": "mlflow-artifacts:/1/r/artifacts"}
    server.answers = [(200, json.dumps({"run": {"info": info}}).encode()), (200, b"{}")]
    assert client.create_run("train", tags=[]) == info
    client.log_files("r", {"a.json": b"{}", "b.json": b"{}"})
    paths = [path.removeprefix("/api/2.0/") for path, _ in server.received]
    artifacts = "mlflow-artifacts/artifacts/1/r/artifacts"
    assert paths[0] == "mlflow/runs/create"
    assert sorted(paths[1:]) == [f"{artifacts}/a.json", f"{artifacts}/b.json"]


def test_server_with_credentials_may_not_reach_the_files_that_the_library_lists(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "x")
    client = Client("http://127.0.0.1:1")  # where nobody answers
    found = [
        SimpleNamespace(path="sheets/1.png", is_dir=False, file_size=3),
        SimpleNamespace(path="sheets/small", is_dir=True, file_size=None),
    ]
    library = SimpleNamespace(list_artifacts=lambda run_id, folder: found)
    monkeypatch.setattr(client, "library", lambda: library)
    assert client.files_in("r", "sheets") == {"sheets/1.png": 3}


def sent_by(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Return the users and hosts that MLflow's library is to ask, as they come."""
    from mlflow.utils import rest_utils

    asked: list[tuple[str, str]] = []

    def request(creds: Any, *_: object, **__: object) -> Any:
        asked.append((creds.username or creds.token, creds.host))
        return SimpleNamespace(status_code=200, content=b'{"run": {}}')

    monkeypatch.setattr(rest_utils, "http_request", request)
    return asked


@pytest.mark.parametrize(
    ("uri", "variables", "user"),
    [
        ("http://127.0.0.1:5000", {"MLFLOW_TRACKING_TOKEN": "x"}, "x"),
        (
            "http://127.0.0.1:5000",
            {"MLFLOW_TRACKING_USERNAME": "y", "MLFLOW_TRACKING_PASSWORD": "z"},
            "y",
        ),
        ("https://127.0.0.1:5000", {}, None),
        ("http://mlflow.example.com", {}, None),
    ],
)
def test_server_that_may_want_credentials_is_asked_by_mlflows_library(
    uri: str,
    variables: dict[str, str],
    user: str | None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    asked = sent_by(monkeypatch)
    Client(uri).run("r")
    assert asked == [(user, uri)]


def test_credentials_in_a_file_are_left_to_mlflows_library(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".mlflow").mkdir()
    secrets = "[mlflow]\nmlflow_tracking_username = x\nmlflow_tracking_password = y\n"
    (tmp_path / ".mlflow" / "credentials").write_text(secrets)
    asked = sent_by(monkeypatch)
    Client("http://127.0.0.1:5000").run("r")
    assert [user for user, _ in asked] == ["x"]
