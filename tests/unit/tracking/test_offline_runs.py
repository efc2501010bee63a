"""Offline runs of Weights & Biases: what a step logs is found in their files."""

import hashlib
import sys
from pathlib import Path
from typing import Any

import pytest
from event_readers import run_of
from PIL import Image

from boothline.errors import ConfigError
from boothline.settings import Settings
from boothline.tracking import MemoryTracker, StepTracker, open_step_tracker
from boothline.tracking.boards import OfflineRun

wandb = pytest.importorskip("wandb", reason="needs the extra wandb")


def offline(folder: Path) -> OfflineRun:
    return OfflineRun(folder, project="p", group="run-1", step="train")


def kept_run(folder: Path) -> tuple[dict[str, Any], Path]:
    """Return what the library's own process has written, once it has ended, and the file."""
    wandb.teardown()
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    return run_of(file), file


@pytest.mark.proves("F07/wandb")
def test_offline_run_holds_metrics_rate_settings_and_pictures_and_passes_everything_on(
    tmp_path: Path,
) -> None:
    inner = MemoryTracker()
    tracker = StepTracker(inner, offline(tmp_path / "wandb-runs"))
    settings = {"training.learning_rate": 4.5e-4, "training.method": "lora", "targets": ["to_q"]}
    tracker.params(settings)
    tracker.metrics({"instance_loss": 0.5, "learning_rate": 4.5e-5}, step=7)
    tracker.metrics({"instance_loss": 0.25, "learning_rate": 9e-5}, step=8)
    picture = Image.effect_noise((8, 4), 90).convert("RGB")
    picture.save(tmp_path / "step-8.png")
    tracker.artifact(tmp_path / "step-8.png", folder="samples")
    tracker.close("FINISHED")

    run, file = kept_run(tmp_path / "wandb-runs")

    assert (run["project"], run["group"], run["name"]) == ("p", "run-1", "run-1/train")
    curves = [row for row in run["history"] if "instance_loss" in row]
    assert [(row["step"], row["instance_loss"], row["learning_rate"]) for row in curves] == [
        (7, 0.5, 4.5e-5), (8, 0.25, 9e-5),
    ]  # fmt: skip
    assert settings.items() <= run["config"].items()
    (shown,) = [row for row in run["history"] if "samples/path" in row]
    kept = file.parent / "files" / shown["samples/path"]
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == shown["samples/sha256"]
    assert list(Image.open(kept).convert("RGB").getdata()) == list(picture.getdata())
    assert run["exit"] == 0
    assert [number for number, _ in inner.logged_metrics] == [7, 8]
    assert inner.logged_artifacts == ["samples/step-8.png"]
    assert (inner.logged_params, inner.status) == (settings, "FINISHED")


def test_offline_run_of_a_failed_step_says_so(tmp_path: Path) -> None:
    tracker = StepTracker(offline(tmp_path))
    tracker.metrics({"loss": 0.5}, step=1)
    tracker.close("FAILED")
    assert kept_run(tmp_path)[0]["exit"] == 1


def test_offline_run_without_values_writes_nothing(tmp_path: Path) -> None:
    StepTracker(offline(tmp_path / "wandb-runs")).close("FINISHED")
    assert not (tmp_path / "wandb-runs").exists()


def test_offline_run_without_its_library_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"boothline\[wandb\]"):
        offline(tmp_path)


def test_open_step_tracker_writes_an_offline_run_when_asked(tmp_path: Path) -> None:
    store: object = None
    tracker = open_step_tracker(
        Settings(home=tmp_path, mlflow_uri=""),
        store=store,  # type: ignore[arg-type]
        run_id="r",
        step="train",
        wandb=True,
    )
    tracker.metrics({"loss": 0.5})
    tracker.close("FINISHED")
    assert kept_run(tmp_path / "runs" / "r")[0]["name"] == "r/train"
