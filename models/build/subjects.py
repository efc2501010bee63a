"""Renders the example subjects: five pictures each of a sprite that training never saw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from models.build.sprites import EmojiCatalogue, EmojiSourceError, load_sprite
from models.build.vocabulary import BACKGROUNDS
from models.build.world import compose

PICTURE_PX: Final = 288
SPRITE_PX: Final = 256
PLACES: Final = ("grass", "the desert", "a city street", "the night sky", "a white background")
"""Where the pictures were taken. The demo asks for other places, so that it cannot copy one."""


@dataclass(frozen=True)
class Subject:
    """One example subject.

    Attributes:
        name: of its folder.
        class_noun: the noun of the picture world that it is an instance of.
        emoji: the held-out emoji that plays it.
        style: the drawing style used.
        for_settings: whether settings may be chosen on it; the others are for figures alone.
    """

    name: str
    class_noun: str
    emoji: str
    style: str = "fluent"
    for_settings: bool = False


SUBJECTS: Final = (
    Subject("teddy-bear", "bear", "teddy_bear", for_settings=True),
    Subject("toy-robot", "robot", "robot_face"),
    Subject("tropical-fish", "fish", "tropical_fish", for_settings=True),
    Subject("unicorn", "horse", "unicorn_face"),
    Subject("poodle", "dog", "poodle"),
    Subject("racing-car", "car", "racing_car"),
)


def render_subject(
    subject: Subject, *, catalogue: EmojiCatalogue, seed: int, output: Path
) -> list[Path]:
    """Write the pictures of a subject with a caption file for each; return the pictures.

    Args:
        subject: what to render.
        catalogue: finds the emoji art.
        seed: with the subject's emoji and the picture's number, the source of randomness.
        output: folder in which the subject's folder is made.

    Raises:
        EmojiSourceError: the art lacks the subject's emoji.
    """
    path = catalogue.path(subject.emoji, subject.style)
    if path is None:
        raise EmojiSourceError(f"no picture of {subject.emoji} in style {subject.style}")
    folder = output / subject.name
    folder.mkdir(parents=True, exist_ok=True)
    preposition = {background.name: background.preposition for background in BACKGROUNDS}
    pictures = []
    for number, place in enumerate(PLACES, start=1):
        rng = np.random.default_rng([seed, *subject.emoji.encode(), number])
        sprite = load_sprite(path, size_px=SPRITE_PX)
        picture = folder / f"{number:02}.jpg"
        compose(sprite, background=place, rng=rng, size_px=PICTURE_PX).save(picture, quality=93)
        caption = f"a photo of {{subject}} {preposition[place]} {place}\n"
        picture.with_suffix(".txt").write_text(caption)
        pictures.append(picture)
    return pictures
