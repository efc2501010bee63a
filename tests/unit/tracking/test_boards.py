"""TensorBoard event files: what a step logs is found in them, and MLflow's tracker gets all."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from boothline.errors import ConfigError
from boothline.settings import Settings
from boothline.tracking import MemoryTracker, NullTracker, open_step_tracker
from boothline.tracking.boards import BoardTracker


def events_in(folder: Path) -> dict[str, list[tuple[int, float | str]]]:
    """Return (step, value) by name from the event files of a folder."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, list[tuple[int, float | str]]] = {}
    for path in folder.glob("events.*"):
        data, place = path.read_bytes(), 0
        while place < len(data):
            length = int.from_bytes(data[place : place + 8], "little")
            event = Event.FromString(data[place + 12 : place + 12 + length])
            place += 12 + length + 4
            for value in event.summary.value:
                shown = "image" if value.HasField("image") else round(value.simple_value, 4)
                found.setdefault(value.tag, []).append((event.step, shown))
    return found


def test_board_holds_metrics_and_pictures_and_passes_everything_on(tmp_path: Path) -> None:
    inner = MemoryTracker()
    tracker = BoardTracker(inner, folder=tmp_path / "board")
    tracker.metrics({"loss": 0.5}, step=1)
    tracker.metrics({"loss": 0.25}, step=2)
    for number in (1, 2):
        Image.new("RGB", (8, 4), (number, 0, 0)).save(tmp_path / f"step-{number}.png")
        tracker.artifact(tmp_path / f"step-{number}.png", folder="samples")
    tracker.params({"rank": 4})
    tracker.close("FINISHED")
    assert events_in(tmp_path / "board") == {
        "loss": [(1, 0.5), (2, 0.25)],
        "samples": [(0, "image"), (1, "image")],
    }
    assert inner.logged_metrics == [(1, {"loss": 0.5}), (2, {"loss": 0.25})]
    assert inner.logged_artifacts == ["samples/step-1.png", "samples/step-2.png"]
    assert (inner.logged_params, inner.status) == ({"rank": 4}, "FINISHED")


def test_board_without_values_writes_nothing(tmp_path: Path) -> None:
    BoardTracker(NullTracker(), folder=tmp_path / "board").close("FINISHED")
    assert not (tmp_path / "board").exists()


def test_board_without_its_library_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ConfigError, match=r"boothline\[tensorboard\]"):
        BoardTracker(NullTracker(), folder=tmp_path)


@pytest.mark.parametrize(("asked", "kind"), [(False, NullTracker), (True, BoardTracker)])
def test_open_step_tracker_writes_boards_only_when_asked(
    tmp_path: Path, asked: bool, kind: type
) -> None:
    settings = Settings(home=tmp_path, mlflow_uri="")
    store: object = None
    tracker = open_step_tracker(
        settings,
        store=store,
        run_id="r",
        step="train",
        tensorboard=asked,  # type: ignore[arg-type]
    )
    assert type(tracker) is kind
