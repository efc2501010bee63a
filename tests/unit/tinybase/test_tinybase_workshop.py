"""What training one stage does to the states of the others."""

from pathlib import Path

import pytest

from models.build.recipe import Recipe, Training
from models.build.stage import save_state
from models.build.workshop import Workshop


class Trainer:
    """Stands for the trainer of a stage that reaches the end of its plan."""

    plan = Training(num_steps=5, batch_size=1, learning_rate=1.0)

    def run(self) -> None:
        pass


@pytest.mark.parametrize(
    ("stage", "reached", "kept"),
    [("autoencoder", 3, False), ("autoencoder", 5, True), ("unet", 3, True)],
)
def test_decoder_polished_behind_an_encoder_goes_when_that_is_trained_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, reached: int, kept: bool
) -> None:
    shop = Workshop(Recipe(), state=tmp_path, emoji_art=tmp_path, output=tmp_path)
    monkeypatch.setattr(shop, "stage_trainer", lambda name: Trainer())
    save_state({"step": reached, "seconds": 0.0}, path=tmp_path / f"{stage}.pt")
    save_state({"step": 9, "seconds": 0.0}, path=tmp_path / "decoder.pt")
    shop.train(stage)
    assert (tmp_path / "decoder.pt").is_file() == kept
