"""Composes the scenes of the picture world: scene i depends on the seed and on i alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from models.build.backgrounds import WORLD_PX, paint_background
from models.build.casting import Cast, Part
from models.build.sprites import EmojiCatalogue, Rendition
from models.build.vocabulary import (
    HEADS,
    STYLE_HEADS,
    VOCABULARY,
    Background,
    article,
)

CAPTIONED: Final = 1
WIDE: Final = 2
"""Scene domains: the same index in another domain is an unrelated scene."""

_NO_BACKGROUND_RATE: Final = 0.12
_STYLE_HEAD_RATE: Final = 0.25
_NO_ARTICLE_RATE: Final = 0.15
_SIDES: Final = (0.58, 0.84)
_FIGURE_SIDES: Final = (0.62, 0.94)


@dataclass(frozen=True)
class Scene:
    """One picture with its ground truth.

    Attributes:
        picture: RGB, 64 x 64 pixels.
        caption: what a caption writer would say; may leave the background out.
        noun: label of the noun, or -1 in the wide domain.
        background: label of the background.
        rendition: which emoji in which style was drawn.
        variant: of the figure; two scenes of one rendition and variant show one subject.
    """

    picture: Image.Image
    caption: str
    noun: int
    background: int
    rendition: Rendition
    variant: str = ""

    @property
    def instance(self) -> str:
        """What two scenes of one subject have in common."""
        return f"{self.rendition.emoji}/{self.rendition.style}{self.variant}"


class World:
    """Draws scenes from the sprites that training may see.

    Args:
        catalogue: finds the emoji art.
        seed: with the scene's index, the only source of randomness.
    """

    def __init__(self, catalogue: EmojiCatalogue, *, seed: int) -> None:
        self.seed = seed
        self.noun_renditions = catalogue.noun_renditions()
        self.wide_renditions = catalogue.wide_renditions()
        self._cast = Cast(seed=seed)

    def captioned(self, index: int) -> Scene:
        """Return captioned scene `index`: one of the nouns on one of the backgrounds."""
        rng = np.random.default_rng([self.seed, CAPTIONED, index])
        noun = int(rng.integers(len(VOCABULARY.nouns)))
        renditions = self.noun_renditions[noun]
        rendition = renditions[int(rng.integers(len(renditions)))]
        label = int(rng.integers(len(VOCABULARY.backgrounds)))
        background = VOCABULARY.backgrounds[label]
        part = self._cast.captioned(rendition, noun=noun, rng=rng)
        caption = write_caption(part, background=background, style=rendition.style, rng=rng)
        picture = compose(part.sprite, background=background.name, rng=rng, sides=_FIGURE_SIDES)
        return Scene(picture, caption, noun, label, rendition)

    def wide(self, index: int) -> Scene:
        """Return wide scene `index`: any emoji that training may see, without a caption."""
        rng = np.random.default_rng([self.seed, WIDE, index])
        rendition = self.wide_renditions[int(rng.integers(len(self.wide_renditions)))]
        label = int(rng.integers(len(VOCABULARY.backgrounds)))
        background = VOCABULARY.backgrounds[label]
        sprite, variant = self._cast.wide(rendition, rng=rng)
        picture = compose(sprite, background=background.name, rng=rng, sides=_FIGURE_SIDES)
        return Scene(picture, "", -1, label, rendition, variant)


def compose(
    sprite: Image.Image,
    *,
    background: str,
    rng: np.random.Generator,
    size_px: int = WORLD_PX,
    sides: tuple[float, float] = _SIDES,
) -> Image.Image:
    """Return a sprite placed on a fresh background, scaled, jittered, flipped and rotated.

    Args:
        sprite: square RGBA picture.
        background: caption name of the background.
        rng: source of every random choice.
        size_px: side of the picture.
        sides: least and greatest side of the sprite, shares of the picture's.
    """
    canvas = paint_background(background, rng=rng, size_px=size_px).convert("RGBA")
    side = int(size_px * rng.uniform(*sides))
    if rng.random() < 0.5:
        sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.4:
        sprite = sprite.rotate(rng.uniform(-10, 10), resample=Image.Resampling.BICUBIC)
    sprite = sprite.resize((side, side), Image.Resampling.LANCZOS)
    spread = size_px / 18
    x = int(np.clip(rng.normal((size_px - side) / 2, spread), 0, size_px - side))
    y = int(np.clip(rng.normal((size_px - side) * 0.62, spread), 0, size_px - side))
    canvas.alpha_composite(sprite, (x, y))
    return canvas.convert("RGB")


def write_caption(
    part: Part, *, background: Background, style: str, rng: np.random.Generator
) -> str:
    """Return one of the many captions of a scene."""
    if rng.random() < _STYLE_HEAD_RATE:
        head = STYLE_HEADS[style]
    else:
        head = HEADS[int(rng.integers(len(HEADS)))]
    named = part.words if rng.random() < _NO_ARTICLE_RATE else f"{article(part.words)} {part.words}"
    named = f"{part.before}{named}{part.after}"
    if rng.random() < _NO_BACKGROUND_RATE:
        return f"{head}{named}"
    return f"{head}{named} {background.preposition} {background.name}"
