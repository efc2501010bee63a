"""Training continues from exported models where no state was kept."""

import logging
from pathlib import Path

import pytest
import torch
from unit.tinybase.test_tinybase_parcel import trainer

from models.build.export import ProgressError, read_progress, write_progress
from models.build.recipe import STAGES, quick_recipe
from models.build.stage import StageTrainer, load_state
from models.build.workshop import Workshop

REPOSITORY = Path(__file__).parents[3]
REACHED = {stage: {"step": number, "seconds": 60} for number, stage in enumerate(STAGES, start=2)}


class OneModel(Workshop):
    """A workshop in which every stage trains the same small autoencoder."""

    def stage_trainer(self, stage: str) -> StageTrainer:
        """Return its trainer, with the weights that it begins from."""
        found = trainer(self.state, ema_decay=0.9)
        found.state_path = self.state / f"{stage}.pt"
        return found


def shop(tmp_path: Path, *, models: Path | None) -> OneModel:
    return OneModel(
        quick_recipe(),
        state=tmp_path / "state",
        emoji_art=tmp_path / "art",
        output=tmp_path / "output",
        begin_from=models,
    )


def test_adopted_stage_continues_from_the_step_of_the_exported_models(
    tmp_path: Path,
) -> None:
    write_progress(REACHED, models=tmp_path)
    adopting = shop(tmp_path, models=tmp_path)
    adopting.run("adopt")
    assert adopting.progress() == REACHED
    begun = adopting.stage_trainer("autoencoder")
    resumed = adopting.stage_trainer("autoencoder")
    assert resumed.restore()
    assert resumed.step == 2
    for one, other in zip(resumed.parameters, begun.parameters, strict=True):
        assert torch.equal(one, other)
    resumed.run()
    assert load_state(resumed.state_path)["step"] == 6


def test_stage_with_a_state_keeps_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_progress(REACHED, models=tmp_path)
    adopting = shop(tmp_path, models=tmp_path)
    own = adopting.stage_trainer("unet")
    own.run(until_step=1)
    with caplog.at_level(logging.INFO):
        adopting.run("adopt")
    assert adopting.progress()["unet"]["step"] == 1
    assert "unet has a state" in caplog.text


@pytest.mark.parametrize(("named", "remedy"), [(False, "--begin-from"), (True, "progress.json")])
def test_adoption_of_models_that_do_not_say_how_far_they_are_is_refused(
    tmp_path: Path, named: bool, remedy: str
) -> None:
    with pytest.raises(ProgressError, match=remedy):
        shop(tmp_path, models=tmp_path if named else None).run("adopt")


def test_shipped_models_say_how_far_they_are_as_their_card_does() -> None:
    card = (REPOSITORY / "models/tiny-emoji-sd/README.md").read_text()
    for stage, reached in read_progress(REPOSITORY / "models").items():
        assert f"| {stage} | {reached['step']:,} |" in card
