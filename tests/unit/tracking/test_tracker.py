"""The tracker of a step without any server: what it costs and what it leaves."""

import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from boothline.errors import TrackingError
from boothline.results import Evaluation
from boothline.tracking import gauges
from boothline.tracking.delivery import Delivery
from boothline.tracking.gauges import read_gauges
from boothline.tracking.parent import flattened
from boothline.tracking.reconciling import headline_metrics
from boothline.tracking.spool import Entry, Spool
from boothline.tracking.tracker import SpoolTracker


class Sink(Delivery):
    """A delivery that keeps what it is given; refuses as often as it is told."""

    def __init__(self, *, num_failures: int = 0) -> None:
        self.sent: list[Entry] = []
        self.num_failures = num_failures

    def send(self, entries: list[Entry], *, files: Path) -> None:
        if self.num_failures:
            self.num_failures -= 1
            raise TrackingError("down")
        self.sent += entries


def unreachable() -> Delivery:
    raise TrackingError("down")


def test_tracker_close_sends_everything_and_removes_the_spool(tmp_path: Path) -> None:
    sink = Sink()
    tracker = SpoolTracker(Spool.new(tmp_path, "train"), connect=lambda: sink, replayed=False)
    tracker.params({"seed": 1, "method": "full"})
    for step in range(300):
        tracker.metrics({"loss": 1.0}, step=step)
    tracker.close("FINISHED")
    assert [entry.step for entry in sink.sent if entry.kind == "metrics"] == list(range(300))
    assert sink.sent[0].texts == {"seed": "1", "method": "full"}
    assert sink.sent[-1].status == "FINISHED"
    assert list(tmp_path.iterdir()) == []


def test_tracker_after_outage_sends_each_entry_once(tmp_path: Path) -> None:
    sink = Sink(num_failures=1)
    tracker = SpoolTracker(Spool.new(tmp_path, "train"), connect=lambda: sink, replayed=False)
    tracker.metrics({"loss": 1.0}, step=0)
    deadline = time.monotonic() + 10
    while sink.num_failures and time.monotonic() < deadline:
        pass
    tracker.close("FINISHED")
    assert [entry.kind for entry in sink.sent] == ["metrics", "status"]


def test_tracker_with_dead_server_keeps_the_spool(tmp_path: Path) -> None:
    spool = Spool.new(tmp_path, "train")
    tracker = SpoolTracker(spool, connect=unreachable, replayed=False)
    tracker.metrics({"loss": 1.0}, step=3)
    tracker.close("FAILED")
    assert [entry.kind for entry in spool.read()[0]] == ["metrics", "status"]


def test_tracker_of_short_step_in_run_folder_never_connects(tmp_path: Path) -> None:
    calls: list[int] = []

    def connect() -> Delivery:
        calls.append(1)
        return Sink()

    spool = Spool.new(tmp_path, "validate_data")
    tracker = SpoolTracker(spool, connect=connect, replayed=True)
    tracker.metrics({"num_images": 4.0})
    tracker.close("FINISHED")
    assert calls == []
    assert len(spool.read()[0]) == 2


def test_tracker_with_nothing_logged_leaves_nothing(tmp_path: Path) -> None:
    tracker = SpoolTracker(Spool.new(tmp_path, "train"), connect=unreachable, replayed=False)
    tracker.close("FINISHED")
    assert list(tmp_path.iterdir()) == []


def test_tracker_with_unwritable_spool_lets_the_step_go_on(tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file where the folder should be")
    spool = Spool.new(tmp_path / "blocked", "train")
    tracker = SpoolTracker(spool, connect=unreachable, replayed=False)
    tracker.metrics({"loss": 1.0})
    tracker.artifact(tmp_path / "blocked")
    tracker.close("FINISHED")
    assert not spool.path.exists()


def test_tracking_import_does_not_load_mlflow() -> None:
    modules = "sys, boothline.tracking, boothline.registry.promotion"
    code = f"import {modules}; print('mlflow' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


DEAD_SERVER = """
import sys, time
from pathlib import Path
from boothline.tracking import client
from boothline.tracking.delivery import Delivery
from boothline.tracking.spool import Spool
from boothline.tracking.tracker import SpoolTracker
port, folder = sys.argv[1:]
def reach():
    delivery = Delivery(client.connect(f"http://127.0.0.1:{port}"), "run")
    delivery.start()
    return delivery
tracker = SpoolTracker(Spool.new(Path(folder), "train"), connect=reach, replayed=False)
started = time.monotonic()
for step in range(2000):
    tracker.metrics({"loss": 1.0, "rate": 2.0}, step=step)
logged = time.monotonic()
tracker.close("FINISHED")
print(logged - started, time.monotonic() - started)
"""


@pytest.mark.slow
def test_tracker_with_real_client_and_closed_port_stays_fast(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-c", DEAD_SERVER, str(port), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    log_seconds, total_seconds = map(float, result.stdout.split())
    assert log_seconds < 2.0, "2,000 calls must not wait for the server"
    assert total_seconds < 12.0
    (path,) = tmp_path.glob("*.jsonl")
    assert len(path.read_text().splitlines()) == 2001


def test_flattened_gives_dotted_names_and_bounded_texts() -> None:
    params = flattened(
        {"training": {"learning_rate": 1e-4, "ema": None}, "prompts": ["é"], "long": "x" * 9000}
    )
    assert params["training.learning_rate"] == "0.0001"
    assert params["training.ema"] == "null"
    assert params["prompts"] == '["é"]'
    assert len(params["long"]) == 6000


def test_headline_metrics_takes_means_and_leaves_out_what_is_not_finite() -> None:
    evaluation = Evaluation.model_validate(
        {
            "metrics": {
                "finetuned": {"dino": {"mean": 0.8, "low": 0.7, "high": 0.9}, "pres": None}
            },
            "gains": {"base": {"dino": {"mean": 0.2}, "score": "nan"}},
        }
    )
    values = headline_metrics(evaluation)
    assert values == {"finetuned/dino": 0.8, "gain_over_base/dino": 0.2}


@pytest.mark.proves("F33/system")
def test_tracker_logs_gauges_while_the_step_is_on_and_none_at_first(tmp_path: Path) -> None:
    sink, readings = Sink(), iter(range(1000))
    tracker = SpoolTracker(
        Spool.new(tmp_path, "train"),
        connect=lambda: sink,
        replayed=False,
        gauges=lambda: {"system/reading": next(readings)},
        gauge_seconds=0.0,
    )
    tracker.metrics({"loss": 1.0})
    deadline = time.monotonic() + 10
    while not gauged(sink) and time.monotonic() < deadline:
        time.sleep(0.01)
    tracker.close("FINISHED")

    assert gauged(sink)[0] == (1, {"system/reading": 1.0})
    assert sink.sent[-1].status == "FINISHED"


def gauged(sink: Sink) -> list[tuple[int, dict[str, float]]]:
    return [(entry.step, entry.numbers) for entry in sink.sent if "system/reading" in entry.numbers]


def test_gauges_are_named_as_mlflow_draws_them_and_tell_of_each_gpu(monkeypatch) -> None:
    class Nvml(ModuleType):
        class NVMLError(Exception):
            """What NVML raises."""

        def nvmlDeviceGetMemoryInfo(self, handle: str) -> SimpleNamespace:
            if handle == "mute":
                raise self.NVMLError("not supported")
            return SimpleNamespace(used=2e9, total=8e9)

        def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:
            return SimpleNamespace(gpu=50)

    @contextmanager
    def nvml():
        yield Nvml("pynvml"), ["mute", "gpu"]

    monkeypatch.setattr(gauges, "open_nvml", nvml)

    values = read_gauges()

    assert values.pop("system/cpu_utilization_percentage") >= 0
    assert 0 < values.pop("system/system_memory_usage_percentage") <= 100
    assert values.pop("system/system_memory_usage_megabytes") > 10
    assert values == {
        "system/gpu_1_memory_usage_megabytes": 2000,
        "system/gpu_1_memory_usage_percentage": 25,
        "system/gpu_1_utilization_percentage": 50,
    }
