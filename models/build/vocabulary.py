"""Names all that the picture world contains: nouns, backgrounds, drawing styles, captions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True)
class Noun:
    """One class noun and the emoji that draw it.

    Attributes:
        name: the word of captions.
        emoji: short names of the art that draws it.
        heads: short names of art that draws its head alone; the world gives it a body.
        kind: `animal` can wear clothes, `machine` too and has a body of blocks; any can be dyed.
    """

    name: str
    emoji: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    kind: Literal["animal", "machine", "thing"] = "thing"


@dataclass(frozen=True)
class Background:
    """One procedural background: its caption text and the preposition before it."""

    name: str
    preposition: str


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
    Background("a forest", "in"),
    Background("the mountains", "in"),
    Background("a meadow", "in"),
    Background("sunset", "at"),
    Background("a wooden floor", "on"),
    Background("a brick wall", "in front of"),
    Background("an orange background", "on"),
    Background("a grey background", "on"),
)

NOUNS: Final[tuple[Noun, ...]] = (
    Noun("bear", heads=("bear", "polar_bear"), kind="animal"),
    Noun("dog", ("dog2", "guide_dog"), heads=("dog",), kind="animal"),
    Noun("cat", ("cat2", "black_cat"), heads=("cat",), kind="animal"),
    Noun("panda", heads=("panda_face",), kind="animal"),
    Noun("fox", heads=("fox_face",), kind="animal"),
    Noun("lion", heads=("lion_face",), kind="animal"),
    Noun("elephant", ("elephant",), kind="animal"),
    Noun("horse", ("racehorse", "horse"), kind="animal"),
    Noun("cow", ("cow2",), heads=("cow",), kind="animal"),
    Noun("pig", ("pig2",), heads=("pig",), kind="animal"),
    Noun("rabbit", ("rabbit2",), heads=("rabbit",), kind="animal"),
    Noun("frog", heads=("frog",), kind="animal"),
    Noun("penguin", ("penguin",), kind="animal"),
    Noun("owl", ("owl",), kind="animal"),
    Noun("duck", ("duck",), kind="animal"),
    Noun("fish", ("fish", "blowfish"), kind="animal"),
    Noun("whale", ("whale", "whale2"), kind="animal"),
    Noun("turtle", ("turtle",), kind="animal"),
    Noun("crab", ("crab",), kind="animal"),
    Noun("car", ("car", "blue_car")),
    Noun("bus", ("bus",)),
    Noun("truck", ("truck", "articulated_lorry")),
    Noun("motorcycle", ("racing_motorcycle",)),
    Noun("airplane", ("small_airplane", "airplane")),
    Noun("rocket", ("rocket",)),
    Noun("sailboat", ("boat",)),
    Noun("apple", ("apple", "green_apple")),
    Noun("banana", ("banana",)),
    Noun("strawberry", ("strawberry",)),
    Noun("pineapple", ("pineapple",)),
    Noun("hamburger", ("hamburger",)),
    Noun("balloon", ("balloon",)),
    Noun("guitar", ("guitar",)),
    Noun("chair", ("chair",)),
    Noun("camera", ("camera", "camera_with_flash")),
    Noun("clock", ("alarm_clock",)),
    Noun("robot", heads=("robot_face",), kind="machine"),
    Noun("sunflower", ("sunflower",)),
    Noun("cactus", ("cactus",)),
    Noun("mushroom", ("mushroom",)),
    Noun("bird", ("bird", "black_bird"), kind="animal"),
    Noun("dinosaur", ("sauropod",), kind="animal"),
)
"""Whole figures where art or a drawn body allows it."""

CLOTHES: Final[tuple[str, ...]] = ("hat", "scarf", "glasses")
"""What animals and machines can wear; the first needs no known head."""

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


@dataclass(frozen=True)
class Vocabulary:
    """What a picture can show: class nouns and backgrounds, each in label order."""

    nouns: tuple[Noun, ...]
    backgrounds: tuple[Background, ...]

    @property
    def noun_names(self) -> tuple[str, ...]:
        """The class nouns in label order."""
        return tuple(noun.name for noun in self.nouns)

    @property
    def background_names(self) -> tuple[str, ...]:
        """The backgrounds in label order."""
        return tuple(background.name for background in self.backgrounds)


VOCABULARY: Final = Vocabulary(NOUNS, BACKGROUNDS)
"""The picture world's own."""

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


def article(noun: str) -> str:
    """Return the indefinite article for a noun."""
    return "an" if noun[0] in "aeiou" else "a"


def plain_caption(noun: str, background: Background | None = None) -> str:
    """Return the canonical caption, `a photo of a bear on the beach`."""
    caption = f"a photo of {article(noun)} {noun}"
    return (
        caption if background is None else f"{caption} {background.preposition} {background.name}"
    )
