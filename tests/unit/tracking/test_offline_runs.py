"""Offline runs of Weights & Biases: what a step logs is found in their files."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from boothline.errors import ConfigError
from boothline.settings import Settings
from boothline.tracking import MemoryTracker, NullTracker, open_step_tracker
from boothline.tracking.weights_biases import OfflineTracker


def offline(inner: MemoryTracker | NullTracker, folder: Path) -> OfflineTracker:
    return OfflineTracker(inner, folder=folder, project="p", group="run-1", step="train")


def test_offline_run_holds_metrics_and_pictures_and_passes_everything_on(tmp_path: Path) -> None:
    inner = MemoryTracker()
    tracker = offline(inner, tmp_path / "wandb-runs")
    tracker.metrics({"loss": 0.5}, step=7)
    Image.new("RGB", (8, 4), (1, 0, 0)).save(tmp_path / "step-7.png")
    tracker.artifact(tmp_path / "step-7.png", folder="samples")
    tracker.close("FINISHED")
    (file,) = (tmp_path / "wandb-runs").glob("wandb/offline-run-*/run-*.wandb")
    data = file.read_bytes()
    # Records of the library's own format, whose names and JSON values stand in it as they are.
    assert all(text in data for text in (b"loss", b"0.5", b"samples", b"run-1/train"))
    assert list((file.parent / "files/media/images").glob("samples_*.png"))
    assert inner.logged_metrics == [(7, {"loss": 0.5})]
    assert inner.logged_artifacts == ["samples/step-7.png"]
    assert inner.status == "FINISHED"


def test_offline_run_without_values_writes_nothing(tmp_path: Path) -> None:
    offline(NullTracker(), tmp_path / "wandb-runs").close("FINISHED")
    assert not (tmp_path / "wandb-runs").exists()


def test_offline_run_without_its_library_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"boothline\[wandb\]"):
        offline(NullTracker(), tmp_path)


def test_open_step_tracker_writes_an_offline_run_when_asked(tmp_path: Path) -> None:
    store: object = None
    tracker = open_step_tracker(
        Settings(home=tmp_path, mlflow_uri=""),
        store=store,  # type: ignore[arg-type]
        run_id="r",
        step="train",
        wandb=True,
    )
    assert type(tracker) is OfflineTracker
