"""Requests to MLflow without its client: what is sent, and what becomes of errors."""

import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from boothline.errors import TrackingError
from boothline.tracking.client import (
    MissingError,
    RejectedError,
    entities_of,
    library_of,
    reach,
    translated,
)
from boothline.tracking.entities import Metric, Param, RunTag
from boothline.tracking.rest import RestClient


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

    do_GET = do_POST = do_PATCH = answer

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
def client(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RestClient:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")  # an address, no credentials
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    client = reach(server.url)
    assert isinstance(client, RestClient)
    return client


def test_log_batch_sends_no_more_at_once_than_mlflow_takes(
    server: Server, client: RestClient
) -> None:
    client.log_batch(
        "r",
        params=[Param(f"p{n}", "1") for n in range(250)],
        tags=[RunTag(f"t{n}", "1") for n in range(20)],
        metrics=[Metric("loss", float(n), 1, n) for n in range(2500)],
    )
    bodies = [body for path, body in server.received if path.endswith("/runs/log-batch")]
    sizes = [tuple(len(body[part]) for part in ("params", "tags", "metrics")) for body in bodies]
    assert sizes == [(100, 20, 880), (100, 0, 900), (50, 0, 720)]
    assert [point["step"] for body in bodies for point in body["metrics"]] == list(range(2500))


def test_log_batch_without_values_sends_nothing(server: Server, client: RestClient) -> None:
    client.log_batch("r")
    assert server.received == []


def test_numbers_that_json_lacks_are_sent_by_their_names(
    server: Server, client: RestClient
) -> None:
    values = (math.nan, math.inf, -math.inf, 0.5)
    client.log_batch("r", metrics=[Metric("loss", value, 1, 0) for value in values])
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
    server: Server, client: RestClient, status: int, answer: bytes, kind: type[TrackingError]
) -> None:
    server.answers = [(status, answer)]
    said = r"MLflow did not show it: .*(no run r|a web page)"
    with pytest.raises(TrackingError, match=said) as caught, translated("show it"):
        client.get_run("r")
    assert type(caught.value) is kind


def test_request_that_a_busy_server_did_not_take_is_sent_once_more(
    server: Server, client: RestClient
) -> None:
    server.answers = [(503, b"busy"), (200, b"{}")]
    client.delete_run("r")
    assert [path for path, _ in server.received] == ["/api/2.0/mlflow/runs/delete"] * 2


def test_server_that_is_gone_is_an_error_of_ours(client: RestClient, server: Server) -> None:
    server.server_close()
    with pytest.raises(TrackingError, match="MLflow did not show it"), translated("show it"):
        client.get_run("r")


class Library:
    """Keeps what MLflow's own client would be asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def log_artifact(self, *arguments: str) -> None:
        self.asked.append(arguments)

    log_artifacts = log_artifact


def test_artifacts_kept_elsewhere_are_sent_by_mlflows_own_client(
    server: Server, client: RestClient, tmp_path: Path
) -> None:
    info = {
        "run_id": "r", "experiment_id": "1", "status": "RUNNING", "lifecycle_stage": "active",
        "artifact_uri": "s3://bucket/r/artifacts",
    }  # fmt: skip
    server.answers = [(200, json.dumps({"run": {"info": info}}).encode())]
    library = Library()
    client.library = lambda: library
    client.log_artifact("r", "report.html", "report")
    client.log_artifacts("r", str(tmp_path))
    assert library.asked == [("r", "report.html", "report"), ("r", str(tmp_path))]
    assert {path.partition("?")[0] for path, _ in server.received} == {"/api/2.0/mlflow/runs/get"}


@pytest.mark.parametrize(
    ("uri", "variables"),
    [
        ("http://127.0.0.1:5000", {"MLFLOW_TRACKING_TOKEN": "x"}),
        ("http://127.0.0.1:5000", {"MLFLOW_TRACKING_USERNAME": "x"}),
        ("https://127.0.0.1:5000", {}),
        ("http://mlflow.example.com", {}),
    ],
)
def test_server_that_may_want_credentials_gets_mlflows_own_client(
    uri: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from mlflow import MlflowClient, entities

    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    client = reach(uri)
    assert isinstance(client, MlflowClient)
    assert library_of(client) is client
    assert entities_of(client) is entities


def test_credentials_in_a_file_are_left_to_mlflows_own_client(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "credentials").write_text("[mlflow]\nmlflow_tracking_username = x\n")
    assert isinstance(reach("http://127.0.0.1:5000"), MlflowClient)
