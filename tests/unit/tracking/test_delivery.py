"""How values reach an MLflow run: in few requests, and none lost with one that is refused."""

from collections.abc import Mapping
from typing import Any

import pytest

from boothline.tracking.base import Values
from boothline.tracking.client import Client, RejectedError
from boothline.tracking.delivery import Delivery


class Server(Client):
    """Answers as MLflow does; it keeps what arrives and counts requests."""

    def __init__(self, *, refused: str = "") -> None:
        super().__init__("http://127.0.0.1:1")
        self.refused = refused
        self.requests: list[str] = []
        self.kept: dict[str, Any] = {}
        self.files: dict[str, bytes] = {}

    def get(self, endpoint: str, *, to: str, **fields: str) -> Any:
        self.requests.append(endpoint)
        return {"run": {"info": {}}}

    def log_batch(self, run_id: str, **parts: Any) -> None:
        items = {one["key"]: one["value"] for part in parts.values() for one in part}
        self.requests += ["log-batch"] if items else []
        if self.refused in items:
            raise RejectedError("too long")
        self.kept |= items

    def log_files(self, run_id: str, files: Mapping[str, bytes]) -> None:
        self.requests.append("files")
        self.files |= files


VALUES = [
    Values(time_ms=1, params={"steps": 9}, tags={"step": "train"}),
    Values(time_ms=2, metrics={"loss": 0.5}, step=1),
    *(Values(time_ms=3, file=f"sheets/{n}.png", content=b"png" * n) for n in (1, 2)),
    Values(time_ms=3, file="report.html", content=b"<p>"),
]


def test_values_of_all_kinds_and_all_files_take_one_request_each() -> None:
    server = Server()
    delivery = Delivery(server, "r")
    delivery.send(VALUES)
    assert server.requests.count("log-batch") == 1
    assert server.requests.count("files") == 1
    assert server.kept == {"steps": "9", "loss": 0.5, "step": "train"}
    assert server.files == {
        "sheets/1.png": b"png", "sheets/2.png": b"pngpng", "report.html": b"<p>",
    }  # fmt: skip


def test_what_arrived_is_not_sent_again() -> None:
    server = Server()
    delivery = Delivery(server, "r")
    points = [value for value in VALUES if not value.params]
    delivery.send(points)
    before = list(server.requests)
    delivery.send(points)
    assert server.requests == before


def test_one_refused_value_costs_only_its_own_kind(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(refused="steps")
    Delivery(server, "r").send(VALUES)
    assert server.kept == {"loss": 0.5, "step": "train"}
    assert len(server.files) == 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "too long" in caplog.text
