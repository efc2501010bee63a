"""MLflow that hangs for a minute: a step does not notice, and a version is registered once."""

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from boothline import services
from boothline.registry.versions import ensure_version
from boothline.settings import Settings
from boothline.store import ManifestRef, Store
from boothline.tracking import open_step_tracker
from boothline.tracking.client import connect

pytestmark = [pytest.mark.services, pytest.mark.faults]

OUTAGE_SECONDS = 60.0
Note = Callable[[str, str], None]


def test_outage_of_a_minute_costs_nothing_and_registers_one_version(
    store: Store, store_settings: Settings, tmp_path: Path, measured: Note
) -> None:
    home = tmp_path / "tracking"
    uri = services.ensure(home, only=["mlflow"]).mlflow_uri
    own = store_settings.model_copy(update={"mlflow_uri": uri, "run_dir": tmp_path / "run"})
    (status,) = [item for item in services.status(home) if item.name == "mlflow"]
    server = psutil.Process(status.pid)
    try:
        server.send_signal(signal.SIGSTOP)
        back = threading.Timer(OUTAGE_SECONDS, server.send_signal, [signal.SIGCONT])
        back.start()
        tracker = open_step_tracker(own, store=store, run_id="r", step="train")
        longest = 0.0
        for step in range(200):
            started_at = time.monotonic()
            tracker.metrics({"loss": 1 / (step + 1)}, step=step)
            longest = max(longest, time.monotonic() - started_at)
        tracker.close("FINISHED")
        ref = ManifestRef(path="steps/publish_checkpoint/m", digest="a" * 64)
        started_at = time.monotonic()
        made = ensure_version(store, own, model_name="outage", ref=ref)
        waited = time.monotonic() - started_at
        again = ensure_version(store, own, model_name="outage", ref=ref)
        found = connect(uri).search_model_versions("name = 'outage'")
        back.join()
    finally:
        server.send_signal(signal.SIGCONT)
        services.stop(home)
    assert longest < 0.5
    assert made == again
    assert [int(version.version) for version in found] == [made.version]
    measured(
        "mlflow down",
        f"hung 60 s: a metric took {longest * 1000:.0f} ms at most; registration waited"
        f" {waited:.0f} s and made one version",
    )
