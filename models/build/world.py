"""Composes the scenes of the picture world: scene i depends on the seed and on i alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from models.build.backgrounds import WORLD_PX, paint_background
from models.build.sprites import EmojiCatalogue, Rendition, load_sprite
from models.build.vocabulary import (
    BACKGROUNDS,
    HEADS,
    NOUNS,
    STYLE_HEADS,
    Background,
    Noun,
    article,
)

CAPTIONED: Final = 1
WIDE: Final = 2
"""Scene domains: the same index in another domain is an unrelated scene."""

_NO_BACKGROUND_RATE: Final = 0.12
_STYLE_HEAD_RATE: Final = 0.25
_NO_ARTICLE_RATE: Final = 0.15


@dataclass(frozen=True)
class Scene:
    """One picture with its ground truth.

    Attributes:
        picture: RGB, 64 x 64 pixels.
        caption: what a caption writer would say; may leave the background out.
        noun: label of the noun, or -1 in the wide domain.
        background: label of the background.
        rendition: which emoji in which style was drawn.
    """

    picture: Image.Image
    caption: str
    noun: int
    background: int
    rendition: Rendition


class World:
    """Draws scenes from the sprites that training may see.

    Args:
        catalogue: finds the emoji art.
        seed: with the scene's index, the only source of randomness.
        nouns: class nouns, in label order.
    """

    def __init__(
        self, catalogue: EmojiCatalogue, *, seed: int, nouns: Sequence[Noun] = NOUNS
    ) -> None:
        self.seed = seed
        self.nouns = tuple(nouns)
        self.noun_renditions = catalogue.noun_renditions(nouns)
        self.wide_renditions = catalogue.wide_renditions()
        self._sprites: dict[Rendition, Image.Image] = {}

    def captioned(self, index: int) -> Scene:
        """Return captioned scene `index`: one of the nouns on one of the backgrounds."""
        rng = np.random.default_rng([self.seed, CAPTIONED, index])
        noun = int(rng.integers(len(self.nouns)))
        renditions = self.noun_renditions[noun]
        rendition = renditions[int(rng.integers(len(renditions)))]
        label = int(rng.integers(len(BACKGROUNDS)))
        caption = write_caption(
            self.nouns[noun].name, background=BACKGROUNDS[label], style=rendition.style, rng=rng
        )
        picture = self._draw(rendition, background=BACKGROUNDS[label], rng=rng)
        return Scene(picture, caption, noun, label, rendition)

    def wide(self, index: int) -> Scene:
        """Return wide scene `index`: any emoji that training may see, without a caption."""
        rng = np.random.default_rng([self.seed, WIDE, index])
        rendition = self.wide_renditions[int(rng.integers(len(self.wide_renditions)))]
        label = int(rng.integers(len(BACKGROUNDS)))
        picture = self._draw(rendition, background=BACKGROUNDS[label], rng=rng)
        return Scene(picture, "", -1, label, rendition)

    def _draw(
        self, rendition: Rendition, *, background: Background, rng: np.random.Generator
    ) -> Image.Image:
        if rendition not in self._sprites:
            self._sprites[rendition] = load_sprite(rendition.path)
        return compose(self._sprites[rendition], background=background.name, rng=rng)


def compose(
    sprite: Image.Image, *, background: str, rng: np.random.Generator, size_px: int = WORLD_PX
) -> Image.Image:
    """Return a sprite placed on a fresh background, scaled, jittered, flipped and rotated.

    Args:
        sprite: square RGBA picture.
        background: caption name of the background.
        rng: source of every random choice.
        size_px: side of the picture.
    """
    canvas = paint_background(background, rng=rng, size_px=size_px).convert("RGBA")
    side = int(size_px * rng.uniform(0.58, 0.84))
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
    noun: str, *, background: Background, style: str, rng: np.random.Generator
) -> str:
    """Return one of the many captions of a scene."""
    if rng.random() < _STYLE_HEAD_RATE:
        head = STYLE_HEADS[style]
    else:
        head = HEADS[int(rng.integers(len(HEADS)))]
    named = noun if rng.random() < _NO_ARTICLE_RATE else f"{article(noun)} {noun}"
    if rng.random() < _NO_BACKGROUND_RATE:
        return f"{head}{named}"
    return f"{head}{named} {background.preposition} {background.name}"
