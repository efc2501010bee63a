"""The tracker of a step without any server: what it costs and what arrives."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from boothline import metering
from boothline.errors import TrackingError
from boothline.metering import read_gauges
from boothline.results import Evaluation
from boothline.tracking import MemoryTracker, StepTracker, delivery, dotted
from boothline.tracking.base import Logged, Values, text_of
from boothline.tracking.delivery import Delivery, LiveRun, shortened
from boothline.tracking.reconciling import headline_metrics


class Sent(Delivery):
    """A delivery that keeps what it is given; refuses as often as it is told."""

    def __init__(self, *, num_failures: int = 0) -> None:
        self.values: list[Values] = []
        self.status = ""
        self.num_failures = num_failures

    def send(self, values: Sequence[Values]) -> None:
        if self.num_failures:
            self.num_failures -= 1
            raise TrackingError("down")
        self.values += values

    def end(self, status: str, *, time_ms: int) -> None:
        self.status = status

    def steps(self, name: str) -> list[int]:
        return [one.step for one in self.values if name in one.metrics]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "START_DELAY_SECONDS", 0.0)
    monkeypatch.setattr(delivery, "SEND_INTERVAL_SECONDS", 0.05)


def live_tracker(connect: Callable[[], Delivery], **changes: float) -> StepTracker:
    readings: Iterator[int] = iter(range(10_000))
    return StepTracker(
        LiveRun(connect, gauges=lambda: {"system/reading": next(readings)}, **changes)
    )


def wait_until(reached: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not reached() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert reached()


def unreachable() -> Delivery:
    raise TrackingError("down")


def test_tracker_close_sends_everything_in_order_and_ends_the_run() -> None:
    sent = Sent()
    tracker = live_tracker(lambda: sent)
    tracker.params({"seed": 1, "method": "full"})
    for step in range(300):
        tracker.metrics({"loss": 1.0}, step=step)
    tracker.tags({"after": "the curve"})
    tracker.close("FINISHED")
    assert sent.steps("loss") == list(range(300))
    assert sent.values[0].params == {"seed": 1, "method": "full"}
    assert sent.values[-1].tags == {"after": "the curve"}
    assert sent.status == "FINISHED"


def test_tracker_passes_each_value_on_once_to_every_sink(tmp_path: Path) -> None:
    (tmp_path / "sheet.png").write_bytes(b"png")
    first, second = MemoryTracker(), Logged()
    tracker = StepTracker(first, second, clock=lambda: 7.0)
    for _ in range(2):
        tracker.params({"seed": 1})
        tracker.metrics({"loss": 1.0}, step=3)
        tracker.artifact(tmp_path / "sheet.png", folder="samples")
    tracker.metrics({"loss": 2.0}, step=3)
    tracker.metrics({"loss": 2.0}, step=4)
    tracker.params({"seed": 2, "rank": 8})
    (tmp_path / "sheet.png").unlink()
    assert first.logged_params == {"seed": 1, "rank": 8}
    assert first.logged_metrics == [(3, {"loss": 1.0}), (3, {"loss": 2.0}), (4, {"loss": 2.0})]
    assert [(one.file, one.content) for one in second if one.file] == [
        ("samples/sheet.png", b"png")
    ]
    assert {one.time_ms for one in second} == {7000}


def test_tracker_after_outage_sends_each_value_once() -> None:
    sent = Sent(num_failures=1)
    tracker = live_tracker(lambda: sent)
    tracker.metrics({"loss": 1.0}, step=5)
    wait_until(lambda: sent.steps("loss"))
    tracker.metrics({"loss": 1.0}, step=6)
    tracker.close("FINISHED")
    assert sent.steps("loss") == [5, 6]
    assert sent.status == "FINISHED"


def test_tracker_with_dead_server_says_so_and_lets_the_step_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tracker = live_tracker(unreachable)
    tracker.metrics({"loss": 1.0}, step=3)
    tracker.close("FAILED")
    assert "tracking waits for MLflow: down" in caplog.text


@pytest.mark.parametrize(("status", "connects"), [("FINISHED", False), ("FAILED", True)])
def test_tracker_of_short_step_connects_only_if_it_fails(
    monkeypatch: pytest.MonkeyPatch, status: delivery.CloseStatus, connects: bool
) -> None:
    monkeypatch.setattr(delivery, "START_DELAY_SECONDS", 60.0)
    sent = Sent()
    tracker = live_tracker(lambda: sent)
    tracker.metrics({"num_images": 4.0})
    tracker.close(status)
    assert sent.steps("num_images") == [0] * connects
    assert sent.status == ("FAILED" if connects else "")


@pytest.mark.parametrize("tags", [{}, {"boothline.manifest": "m"}])
def test_tracker_with_nothing_but_tags_never_connects(tags: dict[str, str]) -> None:
    sent = Sent()
    tracker = live_tracker(lambda: sent)
    if tags:
        tracker.tags(tags)
    tracker.close("FINISHED")
    assert (sent.values, sent.status) == ([], "")


def test_tracker_with_missing_file_lets_the_step_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = MemoryTracker()
    tracker.artifact(tmp_path / "gone.png", folder="samples")
    tracker.metrics({"loss": 1.0})
    assert "left out of tracking (samples/gone.png)" in caplog.text
    assert (tracker.logged_artifacts, len(tracker.logged_metrics)) == ([], 1)


def test_tracking_import_does_not_load_mlflow() -> None:
    modules = "sys, boothline.tracking, boothline.registry.promotion"
    code = f"import {modules}; print('mlflow' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


DEAD_SERVER = """
import sys, time
from boothline.tracking import StepTracker, client, delivery
from boothline.tracking.delivery import Delivery
address = sys.argv[1]
delivery.START_DELAY_SECONDS = 0.0
def reach():
    delivery = Delivery(client.Client(address), "run")
    delivery.start()
    return delivery
tracker = StepTracker(delivery.LiveRun(reach, gauges=dict))
started = time.monotonic()
for step in range(2000):
    tracker.metrics({"loss": 1.0, "rate": 2.0}, step=step)
logged = time.monotonic()
tracker.close("FINISHED")
print(logged - started, time.monotonic() - started)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["refuses connections", "hangs"])
def test_tracker_with_real_client_and_dead_server_costs_little_and_lets_the_process_end(
    how: str,
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if how == "hangs":
            listener.listen()
        command = [
            sys.executable, "-c", DEAD_SERVER, f"http://127.0.0.1:{listener.getsockname()[1]}",
        ]  # fmt: skip
        started = time.monotonic()
        result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        whole_seconds = time.monotonic() - started
    log_seconds, total_seconds = map(float, result.stdout.split())
    assert log_seconds < 2.0, "2,000 calls must not wait for the server"
    assert total_seconds < 12.0
    assert whole_seconds < total_seconds + 10, "nothing may wait for the server after the end"


def test_params_get_dotted_names_and_bounded_texts() -> None:
    params = dotted({"training": {"learning_rate": 1e-4, "ema": None}, "prompts": ["é"]})
    assert {name: text_of(value) for name, value in params.items()} == {
        "training.learning_rate": "0.0001", "training.ema": "null", "prompts": '["é"]',
    }  # fmt: skip
    assert len(shortened("x" * 9000, 6000)) == 6000


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
def test_tracker_logs_gauges_while_the_step_is_on_and_none_at_first() -> None:
    sent = Sent()
    tracker = live_tracker(lambda: sent, gauge_seconds=0.0)
    tracker.metrics({"loss": 1.0})
    wait_until(lambda: sent.steps("system/reading"))
    tracker.close("FINISHED")
    (first, *_) = [one for one in sent.values if "system/reading" in one.metrics]
    assert (first.step, first.metrics) == (1, {"system/reading": 1})
    assert sent.status == "FINISHED"


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

    monkeypatch.setattr(metering, "open_nvml", nvml)

    values = read_gauges()

    assert values.pop("system/cpu_utilization_percentage") >= 0
    assert 0 < values.pop("system/system_memory_usage_percentage") <= 100
    assert values.pop("system/system_memory_usage_megabytes") > 10
    assert values == {
        "system/gpu_1_memory_usage_megabytes": 2000,
        "system/gpu_1_memory_usage_percentage": 25,
        "system/gpu_1_utilization_percentage": 50,
    }
