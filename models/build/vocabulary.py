"""Names all that the picture world contains: nouns, backgrounds, drawing styles, captions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Noun:
    """One class noun and the emoji (by short name) that draw it."""

    name: str
    emoji: tuple[str, ...]


@dataclass(frozen=True)
class Background:
    """One procedural background: its caption text and the preposition before it."""

    name: str
    preposition: str


NOUNS: Final[tuple[Noun, ...]] = (
    Noun("bear", ("bear", "polar_bear")),
    Noun("dog", ("dog", "dog2")),
    Noun("cat", ("cat", "cat2")),
    Noun("panda", ("panda_face",)),
    Noun("fox", ("fox_face",)),
    Noun("lion", ("lion_face",)),
    Noun("elephant", ("elephant",)),
    Noun("horse", ("racehorse", "horse")),
    Noun("cow", ("cow2",)),
    Noun("pig", ("pig",)),
    Noun("rabbit", ("rabbit",)),
    Noun("frog", ("frog",)),
    Noun("penguin", ("penguin",)),
    Noun("owl", ("owl",)),
    Noun("duck", ("duck",)),
    Noun("fish", ("fish", "blowfish")),
    Noun("whale", ("whale",)),
    Noun("turtle", ("turtle",)),
    Noun("crab", ("crab",)),
    Noun("car", ("car", "blue_car")),
    Noun("bus", ("bus",)),
    Noun("truck", ("truck",)),
    Noun("motorcycle", ("racing_motorcycle",)),
    Noun("airplane", ("small_airplane",)),
    Noun("rocket", ("rocket",)),
    Noun("sailboat", ("boat",)),
    Noun("apple", ("apple",)),
    Noun("banana", ("banana",)),
    Noun("strawberry", ("strawberry",)),
    Noun("pineapple", ("pineapple",)),
    Noun("hamburger", ("hamburger",)),
    Noun("balloon", ("balloon",)),
    Noun("guitar", ("guitar",)),
    Noun("chair", ("chair",)),
    Noun("camera", ("camera",)),
    Noun("clock", ("alarm_clock",)),
    Noun("robot", ("robot_face",)),
    Noun("sunflower", ("sunflower",)),
    Noun("cactus", ("cactus",)),
    Noun("mushroom", ("mushroom",)),
)

BACKGROUNDS: Final[tuple[Background, ...]] = (
    Background("grass", "on"),
    Background("the beach", "on"),
    Background("snow", "in"),
    Background("the desert", "in"),
    Background("the ocean", "in"),
    Background("the night sky", "in"),
    Background("the moon", "on"),
    Background("a city street", "on"),
    Background("a red background", "on"),
    Background("a blue background", "on"),
    Background("a green background", "on"),
    Background("a yellow background", "on"),
    Background("a white background", "on"),
    Background("a black background", "on"),
    Background("a pink background", "on"),
    Background("a purple background", "on"),
)

STYLES: Final[tuple[str, ...]] = ("noto", "twemoji", "fluent")
"""The drawing styles, in the order in which a sprite's renditions are numbered."""

STYLE_HEADS: Final[dict[str, str]] = {
    "noto": "a cartoon of ",
    "twemoji": "a flat sticker of ",
    "fluent": "a 3d render of ",
}

HEADS: Final[tuple[str, ...]] = ("a photo of ", "a photo of ", "a picture of ", "an image of ", "")

IDENTIFIERS: Final[tuple[str, ...]] = ("sks", "ohwx", "zwx")
"""Rare tokens that name a personal subject; the tokenizer keeps each as one token."""

HELD_OUT_EMOJI: Final[frozenset[str]] = frozenset(
    {
        "teddy_bear",
        "racing_car",
        "tropical_fish",
        "unicorn_face",
        "t-rex",
        "poodle",
        "parrot",
        "jack_o_lantern",
        "nesting_dolls",
        "space_invader",
    }
)
"""Emoji that no stage ever sees, in any style: the subjects of examples and tests."""

HELD_OUT_RENDITIONS: Final[frozenset[tuple[str, str]]] = frozenset({("robot_face", "fluent")})
"""Single (emoji, style) pairs that no stage ever sees."""

WIDE_SUBCATEGORIES: Final[frozenset[str]] = frozenset(
    {
        "animal-mammal",
        "animal-bird",
        "animal-marine",
        "animal-reptile",
        "animal-amphibian",
        "animal-bug",
        "plant-flower",
        "plant-other",
        "food-fruit",
        "food-vegetable",
        "food-prepared",
        "food-sweet",
        "transport-ground",
        "transport-air",
        "transport-water",
        "household",
        "clothing",
        "musical-instrument",
        "sport",
        "game",
        "tool",
        "drink",
        "light & video",
        "face-costume",
    }
)
"""Emoji subcategories whose uncaptioned sprites teach the autoencoder and the image encoder."""


def noun_names() -> tuple[str, ...]:
    """Return the class nouns in label order."""
    return tuple(noun.name for noun in NOUNS)


def background_names() -> tuple[str, ...]:
    """Return the backgrounds in label order."""
    return tuple(background.name for background in BACKGROUNDS)


def article(noun: str) -> str:
    """Return the indefinite article for a noun."""
    return "an" if noun[0] in "aeiou" else "a"


def plain_caption(noun: str, background: Background | None = None) -> str:
    """Return the canonical caption, `a photo of a bear on the beach`."""
    caption = f"a photo of {article(noun)} {noun}"
    return (
        caption if background is None else f"{caption} {background.preposition} {background.name}"
    )
