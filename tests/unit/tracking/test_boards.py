"""TensorBoard event files: what a step logs is found in them, beside other sinks."""

import io
import sys
from pathlib import Path

import pytest
from event_readers import board_of
from PIL import Image

from boothline.errors import ConfigError
from boothline.settings import Settings
from boothline.tracking import MemoryTracker, StepTracker, open_step_tracker
from boothline.tracking.boards import Board

SETTINGS = {
    "training.learning_rate": 4.5e-4, "training.method": "lora", "training.compile": False,
    "training.num_steps": 200, "lora.targets": ["to_q", "é"], "training.ema_decay": None,
}  # fmt: skip


@pytest.mark.proves("F07/tensorboard")
def test_board_holds_metrics_rate_settings_and_pictures_and_passes_everything_on(
    tmp_path: Path,
) -> None:
    pytest.importorskip("tensorboardX", reason="needs the extra tensorboard")
    inner = MemoryTracker()
    tracker = StepTracker(inner, Board(tmp_path / "board"))
    tracker.params(SETTINGS)
    tracker.metrics({"instance_loss": 0.5, "learning_rate": 4.5e-5}, step=1)
    tracker.metrics({"instance_loss": 0.25, "learning_rate": 9e-5}, step=2)
    pictures = []
    for number in (1, 2):
        pictures.append(Image.effect_noise((8, 4), 90).convert("RGB"))
        pictures[-1].save(tmp_path / f"step-{number}.png")
        tracker.artifact(tmp_path / f"step-{number}.png", folder="samples")
    tracker.close("FINISHED")

    board = board_of(tmp_path / "board")

    assert board["scalars"]["instance_loss"] == [(1, 0.5), (2, 0.25)]
    assert board["scalars"]["learning_rate"] == [
        (1, pytest.approx(4.5e-5, rel=1e-6)), (2, pytest.approx(9e-5, rel=1e-6)),
    ]  # fmt: skip
    assert board["hparams"] == {
        "training.learning_rate": 4.5e-4, "training.method": "lora", "training.compile": False,
        "training.num_steps": 200.0, "lora.targets": '["to_q", "é"]',
        "training.ema_decay": "null",
    }  # fmt: skip
    assert [step for step, _ in board["images"]["samples"]] == [0, 1]
    shown = [Image.open(io.BytesIO(png)) for _, png in board["images"]["samples"]]
    assert [list(s.getdata()) for s in shown] == [list(p.getdata()) for p in pictures]
    assert [number for number, _ in inner.logged_metrics] == [1, 2]
    assert inner.logged_artifacts == ["samples/step-1.png", "samples/step-2.png"]
    assert (inner.logged_params, inner.status) == (SETTINGS, "FINISHED")


def test_board_without_values_writes_nothing(tmp_path: Path) -> None:
    StepTracker(Board(tmp_path / "board")).close("FINISHED")
    assert not (tmp_path / "board").exists()


def test_board_without_its_library_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ConfigError, match=r"boothline\[tensorboard\]"):
        Board(tmp_path)


@pytest.mark.parametrize("asked", [False, True])
def test_open_step_tracker_writes_boards_only_when_asked(tmp_path: Path, asked: bool) -> None:
    pytest.importorskip("tensorboardX", reason="needs the extra tensorboard")
    store: object = None
    tracker = open_step_tracker(
        Settings(home=tmp_path, mlflow_uri=""),
        store=store,  # type: ignore[arg-type]
        run_id="r",
        step="train",
        tensorboard=asked,
    )
    tracker.metrics({"loss": 0.5})
    tracker.close("FINISHED")
    assert (tmp_path / "runs" / "r" / "tensorboard" / "train").exists() is asked
    assert tracker.drops_all is not asked
