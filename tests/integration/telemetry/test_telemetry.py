"""Spans and metrics of steps, sent to a collector that decodes them."""

import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.report.synthetic_run import SyntheticRun
from observed_step import RUN, SHARD, run_step
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from otlp_receiver import Receiver, values_of

from boothline import settings as environment
from boothline.components.finish_run import step as finish_run
from boothline.config import RunConfig
from boothline.errors import DataError
from boothline.runs import Failure, read_steps
from boothline.settings import Settings
from boothline.store import Store
from boothline.store.memory import memory_store
from boothline.store.transfers import TRAFFIC
from boothline.telemetry.meters import TrainingGauges
from boothline.telemetry.spans import run_span_id_of, trace_id_of
from boothline.tracking.base import Values
from boothline.training.job import SubjectFolders, TrainingJob


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with Receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        yield receiver


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    store = memory_store(tmp_path)
    monkeypatch.setattr(Store, "connect", lambda settings, **_: store)
    return store


@pytest.mark.proves("F62/spans")
def test_steps_of_a_run_are_spans_of_one_trace_with_key_and_reuse(
    collector: Receiver, memory: Store
) -> None:
    for name in ("generate_prior", "train", "train"):
        run_step(name)
    run_step("train", run_id="another")
    *ours, other = collector.spans
    assert {int.from_bytes(span.trace_id, "big") for span in ours} == {trace_id_of(RUN)}
    assert {int.from_bytes(span.parent_span_id, "big") for span in ours} == {run_span_id_of(RUN)}
    assert int.from_bytes(other.trace_id, "big") == trace_id_of("another") != trace_id_of(RUN)
    assert len({span.span_id for span in ours}) == 3
    keys = {record.step: record.key for record in read_steps(memory, RUN)}
    assert [values_of(span.attributes) for span in ours] == [
        {"run": RUN, "step": name, "shard": SHARD, "key": keys[name], "reused": reused}
        for name, reused in (("generate_prior", False), ("train", False), ("train", True))
    ]
    assert all(span.end_time_unix_nano > span.start_time_unix_nano for span in ours)
    names = {resource["service.name"] for resource in collector.resources}
    assert names == {"boothline"}


@pytest.mark.proves("F62/spans")
def test_step_that_fails_says_why_and_a_trial_is_within_the_trace_of_its_sweep(
    collector: Receiver, memory: Store
) -> None:
    with pytest.raises(DataError):
        run_step(fails=True)
    run_step(run_id=f"{RUN}-t01")
    failed, trial = collector.spans
    assert failed.status.code == Status.STATUS_CODE_ERROR
    attributes = values_of(failed.attributes)
    assert attributes["failure"] == "DataError: The picture 7.png is cut off."
    assert attributes["key"]
    assert trial.trace_id == failed.trace_id
    assert values_of(trial.attributes)["run"] == f"{RUN}-t01"


@pytest.mark.services
@pytest.mark.proves("F62/spans")
def test_finish_run_sends_the_span_that_stands_for_the_run(
    collector: Receiver, store: Store, store_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "current", lambda: store_settings)
    run = SyntheticRun(store)
    run.validate()
    failure = Failure(type="StoreError", message="The store is full.")
    run.step("generate_prior", None, seconds=1, shard=0, status="failed", failure=failure)
    run_id = run.record("running")
    finish_run.run(run_id=run_id, config=run.config.model_dump_json())
    of_run, of_step = collector.spans
    assert int.from_bytes(of_run.span_id, "big") == run_span_id_of(run_id)
    assert of_step.parent_span_id == of_run.span_id
    assert (of_run.name, of_run.parent_span_id) == ("dreambooth", b"")
    assert values_of(of_run.attributes)["status"] == "failed"
    assert of_run.status.code == Status.STATUS_CODE_ERROR
    assert of_run.start_time_unix_nano < of_step.start_time_unix_nano


@pytest.mark.proves("F62/metrics")
def test_metrics_of_a_step_hold_training_store_memory_and_duration(
    collector: Receiver, memory: Store
) -> None:
    before = TRAFFIC.counts()["sent_bytes"]
    run_step()
    labels = {"run": RUN, "step": "train", "shard": SHARD}
    found = {
        (name, *(str(v) for k, v in values.items() if k not in labels)): value
        for name, values, value in collector.points
    }
    assert all(values.items() >= labels.items() for _, values, _ in collector.points)
    assert found["boothline.training.loss", "instance"] == 0.25
    assert found["boothline.training.loss", "prior"] == 0.125
    assert found["boothline.training.learning_rate",] == 1e-4
    assert found["boothline.training.step",] == 2
    assert found["boothline.store.sent",] == before + 1000
    assert {"boothline.store.requests", "boothline.store.retries", "boothline.store.failures"} < {
        name for name, *_ in found
    }
    assert found["boothline.process.memory",] > 2**20
    assert 0 < found["boothline.step.duration", "done"] < 60
    units = {metric.name: metric.unit for metric in collector.metrics}
    assert units["boothline.store.sent"] == units["boothline.process.memory"] == "By"


@pytest.mark.proves("F62/metrics")
def test_speed_of_a_training_is_that_since_the_metrics_before() -> None:
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader]).get_meter("test")
    moments = iter([0.0, 10.0, 10.0, 12.0, 14.0])
    gauges = TrainingGauges(meter, {"run": RUN}, clock=lambda: next(moments))

    def speed() -> float:
        (resource,) = reader.get_metrics_data().resource_metrics
        found = {metric.name: metric for metric in resource.scope_metrics[0].metrics}
        (point,) = found["boothline.training.steps_per_second"].data.data_points
        return float(point.value)

    gauges.write(Values(time_ms=0, step=100, metrics={"instance_loss": 1.0}))
    gauges.write(Values(time_ms=0, step=120, metrics={"instance_loss": 1.0}))
    assert speed() == 2.0
    gauges.write(Values(time_ms=0, step=122, metrics={"instance_loss": 1.0}))
    assert speed() == 0.5


@pytest.mark.proves("F62/metrics", "F62/logs")
def test_rank_sends_metrics_and_logs_json_with_its_number_and_its_run(
    collector: Receiver, tmp_path: Path
) -> None:
    config = RunConfig.model_validate({"training": {"precision": "fp16"}})
    job = TrainingJob(
        config=config, world_size=1, base_model=tmp_path, base_model_digest="", folder=tmp_path,
        pictures=[SubjectFolders(instance=tmp_path)], data_digest="", states="training/x",
    )  # fmt: skip
    variables = {"RANK": "1", "BOOTHLINE_RUN_ID": RUN, "BOOTHLINE_LOG_FORMAT": "json"}
    done = subprocess.run(
        [sys.executable, "-m", "boothline.training.worker", str(job.save())],
        env={**os.environ, **variables, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    line = json.loads(done.stderr.splitlines()[-1])
    assert (line["run"], line["step"], line["rank"]) == (RUN, "train", 1)
    assert line["message"].startswith("rank 1: training.precision fp16 needs a CUDA device")
    labels = [values for name, values, _ in collector.points if name == "boothline.store.requests"]
    assert labels == [{"run": RUN, "step": "train", "rank": 1}]
    assert collector.spans == []


@pytest.mark.proves("F62/spans")
def test_collector_that_is_away_is_one_warning_and_no_failure(
    memory: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://user:secret@127.0.0.1:{reserved.getsockname()[1]}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        with caplog.at_level(logging.WARNING):
            run_step()
    assert [record.status for record in read_steps(memory, RUN)] == ["done"]
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "does not take traces or metrics; the run continues" in warning.getMessage()
    assert "secret" not in warning.getMessage()


def test_missing_extra_is_one_warning_and_no_failure(
    collector: Receiver,
    memory: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    run_step()
    assert [record.status for record in read_steps(memory, RUN)] == ["done"]
    assert "install boothline[observability]" in caplog.text


def test_invalid_variable_is_one_warning_and_no_failure(
    collector: Receiver,
    memory: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "-1")
    run_step()
    assert [record.status for record in read_steps(memory, RUN)] == ["done"]
    assert "a variable OTEL_... is invalid" in caplog.text


@pytest.mark.parametrize("off", ["OTEL_SDK_DISABLED=true", "", "none"])
def test_nothing_is_sent_or_loaded_where_it_is_not_wanted(
    collector: Receiver, tmp_path: Path, off: str
) -> None:
    program = """
import pathlib, sys
from observed_step import run_step
from boothline.store import Store
from boothline.store.memory import memory_store
store = memory_store(pathlib.Path(sys.argv[1]))
Store.connect = lambda settings, **_: store
run_step()
loaded = [name for name in sys.modules if name.startswith("opentelemetry")]
assert not loaded, loaded
"""
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    if off == "none":
        variables |= {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}
    elif off:
        variables |= dict([off.split("=")])
    else:
        del variables["OTEL_EXPORTER_OTLP_ENDPOINT"]
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env=variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert collector.num_requests == 0
