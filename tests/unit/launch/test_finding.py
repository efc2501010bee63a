"""Commands that look at a run of which only the records in the store are known here."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from boothline import settings as environment
from boothline.config import RunConfig
from boothline.runs import RunRecord, StepRecord, write_run, write_step
from boothline.store import Store
from boothline.store.memory import memory_store

RUN = "nightly-0c1d2e3f-0000-4000-8000-000000000000"
CONFIG = RunConfig().model_dump(mode="json")
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Store]:
    """A store that the settings name, with the records of a run that a cluster runs."""
    made = memory_store(tmp_path)
    monkeypatch.setattr(Store, "connect", lambda settings, **_: made)
    monkeypatch.setenv("BOOTHLINE_S3_ENDPOINT", "http://store.example.org")
    monkeypatch.setenv("BOOTHLINE_HOME", str(tmp_path / "home"))
    environment.current.cache_clear()
    parts = {"step": "train", "version": "1", "config": {"num_steps": 3}, "inputs": []}
    values: dict[str, Any] = {"started_at": 1.0, "key_parts": parts}
    write_step(made, RUN, StepRecord(step="train", status="running", **values))
    yield made
    environment.current.cache_clear()


def test_status_of_a_run_elsewhere_is_that_of_its_records(store: Store, cli: Cli) -> None:
    code, out, _ = cli("status", RUN, "--output", "json")
    assert code == 0
    shown = json.loads(out)
    assert (shown["status"], shown["progress"]) == ("running", [])
    assert [(step["name"], step["status"]) for step in shown["steps"]] == [("train", "running")]


def test_explain_takes_a_run_that_ran_elsewhere(store: Store, cli: Cli) -> None:
    code, out, _ = cli("explain", RUN, "--output", "json")
    assert code == 0
    assert [step["step"] for step in json.loads(out)["steps"]] == ["train"]


def test_report_takes_a_run_that_ran_elsewhere(store: Store, cli: Cli) -> None:
    record = RunRecord(run_id=RUN, status="failed", config=CONFIG, created_at=1.0)
    write_run(store, record)
    code, out, _ = cli("report", RUN, "--output", "json")
    assert code == 0
    assert RUN in Path(json.loads(out)["report"]).read_text()


@pytest.mark.parametrize("run_id", ["20260131-093000-ffff", "../records", ""])
def test_run_that_nothing_knows_is_refused(store: Store, cli: Cli, run_id: str) -> None:
    code, _, err = cli("status", run_id)
    assert code == 2
    assert "run" in err
