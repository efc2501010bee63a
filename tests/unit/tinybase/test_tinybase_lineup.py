"""A line-up: the subject among ten look-alikes of its class."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from models.build import lineup as lineups
from models.build.autoencoder import to_tensor
from models.build.figures import hue_of
from models.build.judge import Judge
from models.build.lineup import (
    NUM_LOOKALIKES,
    SUBJECT_LABEL,
    Lineup,
    recognised,
    trained_lineup,
)
from models.build.recipe import Training
from models.build.sprites import EmojiSourceError, Rendition
from models.build.subjects import SUBJECTS
from models.build.vocabulary import HELD_OUT_EMOJI

TEDDY = SUBJECTS[0]


class TwoBears:
    """A catalogue of a held-out orange disc and a brown and a green training square."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name, colour in (("teddy_bear", "orange"), ("bear", "brown"), ("polar_bear", "green")):
            sprite = Image.new("RGBA", (32, 32))
            pen = ImageDraw.Draw(sprite)
            draw = pen.ellipse if name in HELD_OUT_EMOJI else pen.rectangle
            draw((3, 3, 28, 28), fill=colour)
            sprite.save(folder / f"{name}.png")

    def path(self, emoji: str, style: str) -> Path | None:
        return self._folder / f"{emoji}.png" if style == "fluent" else None

    def noun_renditions(self, nouns) -> list[list[Rendition]]:
        names = [name for name in nouns[0].heads if name not in HELD_OUT_EMOJI]
        return [[Rendition(name, "fluent", self._folder / f"{name}.png") for name in names]]


@pytest.fixture
def catalogue(tmp_path: Path) -> TwoBears:
    return TwoBears(tmp_path)


def test_lineup_has_the_subject_first_and_ten_others(catalogue) -> None:
    lineup = Lineup(TEDDY, catalogue=catalogue, seed=1)
    looks = [sprite.resize((64, 64)).tobytes() for sprite in lineup.sprites]
    assert len(set(looks)) == 1 + NUM_LOOKALIKES
    assert len(lineup.vocabulary.nouns) == 1 + NUM_LOOKALIKES


def test_lineup_draws_all_art_of_the_class_and_half_of_it_in_the_subjects_hue(catalogue) -> None:
    lineup = Lineup(TEDDY, catalogue=catalogue, seed=1)
    greens = []
    for sprite in lineup.sprites[1:]:
        pixels = np.asarray(sprite).reshape(-1, 4)
        red, green, _ = pixels[pixels[:, 3] > 200][:, :3].mean(axis=0)
        greens.append(bool(green > red))
    assert set(greens[:5]) == {True, False}
    assert not any(greens[5:])


def test_lineup_scene_depends_on_its_index_alone(catalogue) -> None:
    first, second = (Lineup(TEDDY, catalogue=catalogue, seed=1) for _ in range(2))
    scenes = [first.scene(index) for index in range(20)]
    again = [second.scene(index) for index in reversed(range(20))]
    for one, other in zip(scenes, reversed(again), strict=True):
        assert one.picture.tobytes() == other.picture.tobytes()
        assert one.noun == other.noun
    assert len({scene.noun for scene in scenes}) > 5


def test_lineup_without_the_subject_in_the_art_is_refused(catalogue) -> None:
    with pytest.raises(EmojiSourceError, match="teddy_bear in style noto"):
        Lineup(
            type(TEDDY)("teddy-bear", "bear", "teddy_bear", style="noto"),
            catalogue=catalogue,
            seed=1,
        )


def test_hue_of_a_subject_goes_onto_its_look_alike() -> None:
    red, blue = (Image.new("RGBA", (8, 8), colour) for colour in ("#d03030", "#3050d0"))
    pixel = hue_of(blue, onto=red).getpixel((4, 4))
    assert pixel[2] > pixel[0] + 80


def test_trained_lineup_recognises_the_subject_and_not_its_look_alikes(
    catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lineups, "NUM_LINEUP_SCENES", 240)
    monkeypatch.setattr(lineups, "LINEUP_TRAINING", Training(60, 32, 2e-3, warmup_steps=5))
    judge, accuracy = trained_lineup(TEDDY, catalogue=catalogue, seed=1, state=tmp_path / "state")
    assert accuracy > 3 / (1 + NUM_LOOKALIKES)
    lineup = Lineup(TEDDY, catalogue=catalogue, seed=1)
    scenes = [lineup.scene(index) for index in range(1000, 1100)]
    shares = {
        own: recognised(
            judge,
            to_tensor(np.stack([np.asarray(s.picture) for s in scenes if (s.noun == 0) == own])),
        )
        for own in (True, False)
    }
    assert shares[True] > shares[False] + 0.4


def test_recognised_is_the_share_of_the_subjects_label(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = torch.tensor([SUBJECT_LABEL, 3, SUBJECT_LABEL, 1])
    monkeypatch.setattr(lineups, "judge_pictures", lambda judge, pixels: (labels, labels))
    assert recognised(Judge(), torch.zeros(4, 3, 64, 64)) == 0.5
