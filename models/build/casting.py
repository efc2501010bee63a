"""Decides how a figure of the picture world looks, and what its caption says of that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from models.build.figures import (
    FIGURE_PX,
    HUES,
    Figure,
    dressed,
    dyed,
    square,
    varied,
    with_body,
    with_machine,
)
from models.build.sprites import Rendition, load_sprite
from models.build.vocabulary import CLOTHES, NOUNS, Noun

NUM_VARIANTS: Final = 6
"""So many subjects does one rendition of the wide domain play, each always looking the same."""

_VARIANT: Final = 3
_HEAD_ALONE_RATE: Final = 0.1
_CLOTHES_RATE: Final = 0.25
_DYED_RATES: Final = {"thing": 0.35, "animal": 0.12, "machine": 0.25}
_WORN_COLOURS: Final = ("red", "blue", "green", "yellow", "white", "black", "pink", "purple")


@dataclass(frozen=True)
class Part:
    """A figure ready for its scene.

    Attributes:
        sprite: square RGBA picture.
        words: the noun with what stands between it and its article.
        before: what captions say before the article.
        after: what captions say after the noun.
    """

    sprite: Image.Image
    words: str
    before: str = ""
    after: str = ""


class Cast:
    """Casts renditions as figures: bodies, hues, proportions, clothes.

    Args:
        seed: with a variant's number, what it looks like.
    """

    def __init__(self, *, seed: int) -> None:
        self._seed = seed
        self._of_head = {name: noun for noun in NOUNS for name in noun.heads}
        self._art: dict[Rendition, Image.Image] = {}

    def captioned(self, rendition: Rendition, *, noun: int, rng: np.random.Generator) -> Part:
        """Return a rendition as a figure of a noun, with what its caption says."""
        cast = NOUNS[noun]
        art, colour = self._dyed(self._square(rendition), kind=cast.kind, rng=rng)
        words = f"{colour} {cast.name}" if colour else cast.name
        if rendition.emoji in cast.heads and rng.random() < _HEAD_ALONE_RATE:
            return Part(varied(art, rng=rng), words, before="the head of ")
        figure = self._figure(art, rendition=rendition, noun=cast, rng=rng)
        if cast.kind == "thing" or rng.random() >= _CLOTHES_RATE:
            return Part(varied(figure.sprite, rng=rng), words)
        figure, worn = _clothed(figure, style=rendition.style, rng=rng)
        return Part(varied(figure.sprite, rng=rng), words, after=f" wearing {worn}")

    def wide(self, rendition: Rendition, *, rng: np.random.Generator) -> tuple[Image.Image, str]:
        """Return one of a rendition's fixed variants and its name."""
        variant = int(rng.integers(NUM_VARIANTS))
        key = f"{rendition.emoji}/{rendition.style}".encode()
        own = np.random.default_rng([self._seed, _VARIANT, variant, *key])
        noun = self._of_head.get(rendition.emoji)
        kind = noun.kind if noun else "thing"
        art, _ = self._dyed(self._square(rendition), kind=kind, rng=own)
        figure = self._figure(art, rendition=rendition, noun=noun, rng=own)
        if kind != "thing" and own.random() < _CLOTHES_RATE:
            figure, _ = _clothed(figure, style=rendition.style, rng=own)
        return varied(figure.sprite, rng=own), f"/{variant}"

    def _square(self, rendition: Rendition) -> Image.Image:
        if rendition not in self._art:
            self._art[rendition] = square(load_sprite(rendition.path, size_px=FIGURE_PX))
        return self._art[rendition]

    def _dyed(
        self, art: Image.Image, *, kind: str, rng: np.random.Generator
    ) -> tuple[Image.Image, str]:
        if rng.random() >= _DYED_RATES[kind]:
            return art, ""
        colour = HUES[int(rng.integers(len(HUES)))]
        changed = dyed(art, colour=colour)
        return (art, "") if changed is None else (changed, colour)

    def _figure(
        self,
        art: Image.Image,
        *,
        rendition: Rendition,
        noun: Noun | None,
        rng: np.random.Generator,
    ) -> Figure:
        if noun is None or rendition.emoji not in noun.heads:
            return Figure(art)
        draw = with_machine if noun.kind == "machine" else with_body
        return draw(art, style=rendition.style, rng=rng)


def _clothed(figure: Figure, *, style: str, rng: np.random.Generator) -> tuple[Figure, str]:
    """Return a figure that wears something, and the words for it: `a red hat`."""
    choice = CLOTHES if figure.head else CLOTHES[:1]
    piece = choice[int(rng.integers(len(choice)))]
    colour = _WORN_COLOURS[int(rng.integers(len(_WORN_COLOURS)))]
    worn = f"{colour} {piece}" if piece == "glasses" else f"a {colour} {piece}"
    return dressed(figure, piece=piece, colour=colour, style=style), worn
