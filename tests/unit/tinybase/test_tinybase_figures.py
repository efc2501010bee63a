"""The figures of the picture world: bodies, hues and clothes, and captions that say so."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from models.build.backgrounds import paint_background
from models.build.casting import NUM_VARIANTS, Cast
from models.build.figures import (
    FIGURE_PX,
    Figure,
    dressed,
    dyed,
    main_colours,
    square,
    top_of,
    varied,
    with_body,
    with_machine,
)
from models.build.sprites import Rendition
from models.build.vocabulary import BACKGROUNDS, VOCABULARY

BROWN = (150, 90, 50)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def disc(colour: tuple[int, int, int] = BROWN, *, side: int = FIGURE_PX) -> Image.Image:
    """Return a disc with a margin, as emoji art has."""
    sprite = Image.new("RGBA", (side, side))
    margin = side // 8
    box = (margin, margin, side - margin, side - margin)
    ImageDraw.Draw(sprite).ellipse(box, fill=(*colour, 255))
    return sprite


def opaque_rows(sprite: Image.Image) -> np.ndarray:
    return np.flatnonzero((np.asarray(sprite.getchannel("A")) > 128).any(axis=1))


def mean_colour(sprite: Image.Image) -> np.ndarray:
    pixels = np.asarray(sprite).reshape(-1, 4)
    return pixels[pixels[:, 3] > 200][:, :3].mean(axis=0)


def test_square_fills_the_side_and_stands_on_the_ground() -> None:
    wide = disc(side=64).resize((64, 32))
    shown = square(wide)
    assert shown.size == (FIGURE_PX, FIGURE_PX)
    assert opaque_rows(shown)[-1] >= FIGURE_PX - 3
    assert shown.getbbox()[0] <= 1


def test_main_colours_finds_the_commonest_first() -> None:
    sprite = disc(BROWN)
    ImageDraw.Draw(sprite).rectangle((33, 33, 62, 62), fill=(250, 250, 250, 255))
    first, second = main_colours(sprite)
    assert np.allclose(first, BROWN, atol=12)
    assert min(second) > 200


@pytest.mark.parametrize("draw", [with_body, with_machine])
@pytest.mark.parametrize("style", ["noto", "twemoji", "fluent"])
def test_body_stands_below_the_head_in_its_colours(draw, style: str) -> None:
    figure = draw(disc(), style=style, rng=rng())
    assert figure.head is not None
    neck = round(figure.head[3] * FIGURE_PX)
    rows = opaque_rows(figure.sprite)
    assert rows[-1] >= FIGURE_PX - 2
    assert len(rows[rows > neck]) > FIGURE_PX // 4
    body = figure.sprite.crop((0, neck, FIGURE_PX, FIGURE_PX))
    red, _, blue = mean_colour(body)
    assert red > blue


def test_body_of_another_draw_has_other_proportions() -> None:
    first, second = (with_body(disc(), style="noto", rng=rng(seed)) for seed in (1, 2))
    assert first.sprite.tobytes() != second.sprite.tobytes()


def test_dyed_turns_the_hue_and_leaves_grey_alone() -> None:
    blue = dyed(disc(BROWN), colour="blue")
    assert blue is not None
    red_share, _, blue_share = mean_colour(blue)
    assert blue_share > red_share + 40
    assert dyed(disc((128, 128, 128)), colour="blue") is None


def test_varied_keeps_the_figure_on_the_ground() -> None:
    changed = varied(square(disc()), rng=rng())
    assert changed.tobytes() != square(disc()).tobytes()
    assert opaque_rows(changed)[-1] >= FIGURE_PX - 2


@pytest.mark.parametrize("piece", ["hat", "scarf", "glasses"])
def test_dressed_shows_the_colour_of_the_piece_where_it_belongs(piece: str) -> None:
    figure = with_body(disc((200, 200, 200)), style="twemoji", rng=rng())
    changed = np.asarray(
        dressed(figure, piece=piece, colour="red", style="twemoji").sprite.convert("RGB")
    ).astype(int)
    red = (changed[..., 0] > 180) & (changed[..., 1] < 90)
    assert figure.head is not None
    _, top, _, neck = (share * FIGURE_PX for share in figure.head)
    height = np.flatnonzero(red.any(axis=1)).mean()
    middle = {"hat": top, "glasses": (top + neck) / 2, "scarf": neck + 6}[piece]
    assert abs(height - middle) < FIGURE_PX * 0.13


def test_top_of_a_figure_without_a_known_head_is_where_it_is_highest() -> None:
    sprite = Image.new("RGBA", (FIGURE_PX, FIGURE_PX))
    pen = ImageDraw.Draw(sprite)
    pen.rectangle((0, 60, 95, 95), fill=(*BROWN, 255))
    pen.rectangle((70, 20, 90, 60), fill=(*BROWN, 255))
    left, top, right, _ = top_of(sprite)
    assert (left + right) / 2 == pytest.approx(80 / FIGURE_PX, abs=0.02)
    assert top == pytest.approx(20 / FIGURE_PX, abs=0.02)


def test_top_of_an_empty_sprite_is_inside_the_picture() -> None:
    box = top_of(Image.new("RGBA", (FIGURE_PX, FIGURE_PX)))
    assert min(box) >= 0
    assert max(box) <= 1


@pytest.fixture
def cast() -> Cast:
    return Cast(seed=5)


def rendition(folder: Path, emoji: str) -> Rendition:
    path = folder / f"{emoji}.png"
    disc().save(path)
    return Rendition(emoji, "noto", path)


def label(noun: str) -> int:
    return VOCABULARY.noun_names.index(noun)


def parts(cast: Cast, shown: Rendition, noun: str, count: int = 120) -> list:
    return [cast.captioned(shown, noun=label(noun), rng=rng(seed)) for seed in range(count)]


def test_cast_animal_now_and_then_wears_something_its_caption_names(
    cast: Cast, tmp_path: Path
) -> None:
    dressed_parts = [
        part for part in parts(cast, rendition(tmp_path, "bear"), "bear") if part.after
    ]
    assert 10 < len(dressed_parts) < 60
    worn = {part.after.split()[-1] for part in dressed_parts}
    assert worn == {"hat", "scarf", "glasses"}
    assert all(part.after.startswith(" wearing ") for part in dressed_parts)


def test_cast_head_alone_is_called_a_head(cast: Cast, tmp_path: Path) -> None:
    alone = [part for part in parts(cast, rendition(tmp_path, "bear"), "bear") if part.before]
    assert alone
    assert {part.before for part in alone} == {"the head of "}


def test_cast_thing_is_dyed_but_never_dressed(cast: Cast, tmp_path: Path) -> None:
    cars = parts(cast, rendition(tmp_path, "car"), "car")
    assert not [part for part in cars if part.after or part.before]
    assert {"car", "blue car", "red car"} <= {part.words for part in cars}


def test_cast_wide_variant_looks_the_same_in_every_scene(cast: Cast, tmp_path: Path) -> None:
    shown = rendition(tmp_path, "bear")
    looks: dict[str, set[bytes]] = {}
    for seed in range(40):
        sprite, variant = cast.wide(shown, rng=rng(seed))
        looks.setdefault(variant, set()).add(sprite.tobytes())
    assert len(looks) == NUM_VARIANTS
    assert all(len(pictures) == 1 for pictures in looks.values())
    assert len(set.union(*looks.values())) == NUM_VARIANTS


def test_dressed_figure_without_a_known_head_gets_its_hat_on_top() -> None:
    plain = Figure(square(disc((200, 200, 200)).resize((96, 40))))
    hatted = dressed(plain, piece="hat", colour="red", style="twemoji").sprite
    assert opaque_rows(hatted)[0] < opaque_rows(plain.sprite)[0]


@pytest.mark.parametrize("name", VOCABULARY.background_names)
def test_background_scales_with_the_picture(name: str) -> None:
    small, large = (
        np.asarray(paint_background(name, rng=rng(4), size_px=side), dtype=float)
        for side in (64, 128)
    )
    assert small.shape == (64, 64, 3)
    quarters, same_quarters = (pixels.reshape(4, -1, 3).mean(axis=1) for pixels in (small, large))
    assert np.allclose(quarters, same_quarters, atol=15)


def test_backgrounds_differ_from_each_other() -> None:
    pictures = {
        paint_background(name, rng=rng(4)).tobytes() for name in VOCABULARY.background_names
    }
    assert len(pictures) == len(BACKGROUNDS) == 24
