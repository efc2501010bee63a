"""Tests whether a picture shows the subject itself: a classifier that knows ten look-alikes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image

from models.build.autoencoder import to_tensor
from models.build.casting import Cast
from models.build.figures import hue_of, square
from models.build.judge import Judge, JudgeObjective, judge_pictures
from models.build.recipe import Training
from models.build.scenes import HELD_OUT_FIRST_INDEX, draw_scenes
from models.build.sprites import EmojiCatalogue, EmojiSourceError, Rendition, load_sprite
from models.build.stage import StageTrainer
from models.build.subjects import Subject
from models.build.vocabulary import VOCABULARY, Noun, Vocabulary
from models.build.world import Scene, compose

NUM_LOOKALIKES: Final = 10
SUBJECT_LABEL: Final = 0
LINEUP_TRAINING: Final = Training(400, 64, 1e-3, warmup_steps=20)
NUM_LINEUP_SCENES: Final = 4_000

_LOOKALIKE: Final = 4
_SCENE: Final = 5
"""Domains of the random draws, next to those of scenes and variants."""


class Lineup:
    """The subject among ten figures of its class, half of them in its own hue.

    Args:
        subject: label 0; the look-alikes have the labels 1 to 10.
        catalogue: finds the art.
        seed: with a look-alike's number or a scene's index, the only source of randomness.

    Raises:
        EmojiSourceError: the art lacks the subject.
    """

    def __init__(self, subject: Subject, *, catalogue: EmojiCatalogue, seed: int) -> None:
        path = catalogue.path(subject.emoji, subject.style)
        if path is None:
            raise EmojiSourceError(f"no picture of {subject.emoji} in style {subject.style}")
        self._rendition = Rendition(subject.emoji, subject.style, path)
        self._seed = seed
        own = load_sprite(path, size_px=128)
        self.sprites = [own, *self._lookalikes(own, subject.class_noun, catalogue=catalogue)]

    @property
    def vocabulary(self) -> Vocabulary:
        """What the classifier can name: who it is, and where."""
        names = tuple(Noun(f"identity {number}") for number in range(1 + NUM_LOOKALIKES))
        return Vocabulary(names, VOCABULARY.backgrounds)

    def scene(self, index: int) -> Scene:
        """Return scene `index`: one of the eleven on one of the backgrounds."""
        rng = np.random.default_rng([self._seed, _SCENE, index, *self._rendition.emoji.encode()])
        label = int(rng.integers(len(self.sprites)))
        place = int(rng.integers(len(VOCABULARY.backgrounds)))
        background = VOCABULARY.backgrounds[place].name
        picture = compose(self.sprites[label], background=background, rng=rng)
        return Scene(picture, "", label, place, self._rendition, f"/{label}")

    def _lookalikes(
        self, own: Image.Image, class_noun: str, *, catalogue: EmojiCatalogue
    ) -> list[Image.Image]:
        label = VOCABULARY.noun_names.index(class_noun)
        renditions = catalogue.noun_renditions([VOCABULARY.nouns[label]])[0]
        cast = Cast(seed=self._seed)
        figures = []
        for number in range(NUM_LOOKALIKES):
            rng = np.random.default_rng([self._seed, _LOOKALIKE, number, label])
            rendition = renditions[number % len(renditions)]
            figure = cast.captioned(rendition, noun=label, rng=rng).sprite
            in_its_hue = number >= NUM_LOOKALIKES // 2
            figures.append(hue_of(own, onto=figure) if in_its_hue else figure)
        return [square(figure) for figure in figures]


def trained_lineup(
    subject: Subject, *, catalogue: EmojiCatalogue, seed: int, state: Path
) -> tuple[Judge, float]:
    """Return the classifier that separates a subject from its look-alikes, and its own accuracy.

    Args:
        subject: what it must recognise.
        catalogue: finds the art.
        seed: of the line-up and the training.
        state: folder of its scenes and its training state; a trained one is read.
    """
    lineup = Lineup(subject, catalogue=catalogue, seed=seed)
    blocks = {"training": (0, NUM_LINEUP_SCENES)}
    blocks["held-out"] = (HELD_OUT_FIRST_INDEX, NUM_LINEUP_SCENES // 8)
    scenes = {
        name: draw_scenes(
            lineup.scene, first=first, count=count, folder=state / f"{subject.name}-{name}"
        )
        for name, (first, count) in blocks.items()
    }
    torch.manual_seed(seed + 5)
    judge = Judge(lineup.vocabulary)
    StageTrainer(
        f"line-up of {subject.name}",
        objective=JudgeObjective(
            judge, scenes=scenes["training"], batch_size=LINEUP_TRAINING.batch_size
        ),
        plan=LINEUP_TRAINING,
        seed=seed,
        state_path=state / f"{subject.name}.pt",
    ).run()
    held_out = scenes["held-out"]
    labels, _ = judge_pictures(judge.cpu(), to_tensor(np.array(held_out.pixels_NHWC)))
    return judge, float((labels == torch.from_numpy(held_out.nouns)).float().mean())


def recognised(judge: Judge, pixels_BCHW: torch.Tensor) -> float:
    """Return the share of pictures in [-1, 1] that a line-up's classifier calls the subject."""
    labels, _ = judge_pictures(judge, pixels_BCHW)
    return float((labels == SUBJECT_LABEL).float().mean())
