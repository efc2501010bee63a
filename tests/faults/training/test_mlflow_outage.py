"""MLflow that is away for a minute: a step does not notice, and a version is registered once."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_proxy import FaultProxy

from boothline.registry.versions import ensure_version
from boothline.settings import Settings
from boothline.store import ManifestRef, Store
from boothline.tracking import delivery, open_step_tracker
from boothline.tracking.client import connect

pytestmark = [pytest.mark.services, pytest.mark.faults]

OUTAGE_SECONDS = 60.0
NUM_METRICS = 200
CLOSE_SECONDS = 12.0
Note = Callable[[str, str], None]


@pytest.mark.parametrize("how", ["hangs", "refuses connections"])
def test_outage_of_a_minute_costs_nothing_and_registers_one_version(
    store: Store, store_settings: Settings, mlflow_uri: str, tmp_path: Path, measured: Note,
    how: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(delivery, "START_DELAY_SECONDS", 0.0)
    name = f"outage-{how[:6]}"
    ref = ManifestRef(path="steps/publish_checkpoint/m", digest="a" * 64)
    with FaultProxy(mlflow_uri, keeps_host=False) as proxy:
        begin, end = {
            "hangs": (proxy.hold, proxy.release),
            "refuses connections": (proxy.refuse, proxy.accept_again),
        }[how]
        settings = store_settings.model_copy(
            update={"mlflow_uri": proxy.url, "run_dir": tmp_path / "run"}
        )
        begin()
        back = threading.Timer(OUTAGE_SECONDS, end)
        back.start()
        longest, closing = seconds_of_tracking(settings, store)
        started_at = time.monotonic()
        made = ensure_version(store, settings, model_name=name, ref=ref)
        waited = time.monotonic() - started_at
        again = ensure_version(store, settings, model_name=name, ref=ref)
        back.join()
    found = connect(mlflow_uri).search_model_versions(f"name = '{name}'")
    assert longest < 0.5
    assert closing < CLOSE_SECONDS
    assert waited > OUTAGE_SECONDS / 2
    assert made == again
    assert [int(version.version) for version in found] == [made.version]
    measured(
        "mlflow down",
        f"{how} for 60 s: a metric took {longest * 1000:.0f} ms at most; registration waited"
        f" {waited:.0f} s and made {len(found)} version",
    )


def seconds_of_tracking(settings: Settings, store: Store) -> tuple[float, float]:
    """Track a step of many metrics; return what the slowest one took, and what its end took."""
    tracker = open_step_tracker(settings, store=store, run_id="r", step="train")
    longest = 0.0
    for step in range(NUM_METRICS):
        started_at = time.monotonic()
        tracker.metrics({"loss": 1 / (step + 1)}, step=step)
        longest = max(longest, time.monotonic() - started_at)
    started_at = time.monotonic()
    tracker.close("FINISHED")
    return longest, time.monotonic() - started_at
