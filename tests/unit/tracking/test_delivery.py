"""How values reach an MLflow run: in few requests, and none lost with one that is refused."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from boothline.tracking.base import Values
from boothline.tracking.delivery import Delivery


class Server:
    """What MLflow's client is for a delivery; it keeps what arrives and counts requests."""

    def __init__(self, *, refused: str = "") -> None:
        self.refused = refused
        self.requests: list[str] = []
        self.kept: dict[str, Any] = {}
        self.files: dict[str, bytes] = {}

    def get_run(self, run_id: str) -> Any:
        self.requests.append("get_run")
        return SimpleNamespace(data=SimpleNamespace(params={}, metrics={}))

    def log_batch(self, run_id: str, **parts: Any) -> None:
        self.requests.append("log_batch")
        items = {getattr(one, "key", ""): one.value for part in parts.values() for one in part}
        if self.refused in items:
            raise MlflowException("too long", INVALID_PARAMETER_VALUE)
        self.kept |= items

    def list_artifacts(self, run_id: str, folder: str | None) -> list[Any]:
        self.requests.append("list_artifacts")
        return []

    def log_artifacts(self, run_id: str, folder: str) -> None:
        self.requests.append("log_artifacts")
        paths = [path for path in Path(folder).rglob("*") if path.is_file()]
        self.files |= {str(path.relative_to(folder)): path.read_bytes() for path in paths}


VALUES = [
    Values(time_ms=1, params={"steps": 9}, tags={"step": "train"}),
    Values(time_ms=2, metrics={"loss": 0.5}, step=1),
    *(Values(time_ms=3, file=f"sheets/{n}.png", content=b"png" * n) for n in (1, 2)),
    Values(time_ms=3, file="report.html", content=b"<p>"),
]


def test_values_of_all_kinds_and_all_files_take_one_request_each() -> None:
    server = Server()
    delivery = Delivery(server, "r")  # type: ignore[arg-type]
    delivery.send(VALUES)
    assert server.requests.count("log_batch") == 1
    assert server.requests.count("log_artifacts") == 1
    assert server.kept == {"steps": "9", "loss": 0.5, "step": "train"}
    assert server.files == {
        "sheets/1.png": b"png", "sheets/2.png": b"pngpng", "report.html": b"<p>",
    }  # fmt: skip


def test_what_arrived_is_not_sent_again() -> None:
    server = Server()
    delivery = Delivery(server, "r")  # type: ignore[arg-type]
    points = [value for value in VALUES if not value.params]
    delivery.send(points)
    before = list(server.requests)
    delivery.send(points)
    assert server.requests == before


def test_one_refused_value_costs_only_its_own_kind(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(refused="steps")
    Delivery(server, "r").send(VALUES)  # type: ignore[arg-type]
    assert server.kept == {"loss": 0.5, "step": "train"}
    assert len(server.files) == 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "too long" in caplog.text
