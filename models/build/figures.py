"""Draws the figures of the second picture world: heads on bodies, hues, proportions, clothes."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from models.build.backgrounds import PLAIN_COLOURS

Rgb = tuple[int, int, int]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom; shares of the figure's side."""

FIGURE_PX: Final = 96
_MIN_SATURATION: Final = 0.2
_SEATED_RATE: Final = 0.75
_BELLY_RATE: Final = 0.6
HUES: Final = ("red", "yellow", "green", "blue", "pink", "purple")
"""The colours into which a figure can be dyed: those that are a hue."""


@dataclass(frozen=True)
class Figure:
    """One figure with what a caption can say about it.

    Attributes:
        sprite: square RGBA picture.
        head: where its head is, or None where the art does not say.
    """

    sprite: Image.Image
    head: Box | None = None


def square(sprite: Image.Image, *, side_px: int = FIGURE_PX) -> Image.Image:
    """Return a sprite cut to what it shows, centred at the bottom of a square."""
    box = sprite.getchannel("A").point(lambda alpha: 255 * (alpha > 16)).getbbox()
    shown = sprite.crop(box)
    scale = side_px / max(shown.size)
    size = (max(1, round(shown.width * scale)), max(1, round(shown.height * scale)))
    canvas = Image.new("RGBA", (side_px, side_px))
    shown = shown.resize(size, Image.Resampling.LANCZOS)
    canvas.alpha_composite(shown, ((side_px - size[0]) // 2, side_px - size[1]))
    return canvas


def main_colours(sprite: Image.Image) -> tuple[Rgb, Rgb]:
    """Return the two commonest colours of a sprite, coarsely quantised."""
    pixels = np.asarray(sprite.resize((32, 32), Image.Resampling.BILINEAR)).reshape(-1, 4)
    solid = pixels[pixels[:, 3] > 200][:, :3].astype(int)
    if not len(solid):
        return (128, 128, 128), (96, 96, 96)
    bins = solid // 43 @ np.array([36, 6, 1])
    counts = np.bincount(bins, minlength=216)
    first, second = np.argsort(-counts, kind="stable")[:2]
    colours = [
        np.median(solid[bins == chosen], axis=0) if counts[chosen] else np.full(3, 96.0)
        for chosen in (first, second)
    ]
    return _rgb(colours[0]), _rgb(colours[1])


def _rgb(colour: np.ndarray) -> Rgb:
    red, green, blue = (int(np.clip(value, 0, 255)) for value in colour)
    return red, green, blue


def mixed(colour: Rgb, other: Rgb, share: float) -> Rgb:
    """Return a colour with a share of another in it."""
    return _rgb(np.array(colour) * (1 - share) + np.array(other) * share)


def dyed(sprite: Image.Image, *, colour: str) -> Image.Image | None:
    """Return a sprite with its main hue turned into a named colour; None where it is grey."""
    hue, saturation, value = _main_hue(sprite)
    if saturation < _MIN_SATURATION:
        return None
    red, green, blue = (value / 255 for value in PLAIN_COLOURS[colour])
    wanted = colorsys.rgb_to_hsv(red, green, blue)
    return _shifted(
        sprite,
        turn=wanted[0] - hue,
        saturation=float(np.clip(wanted[1] / saturation, 0.8, 1.5)),
        value=float(np.clip(wanted[2] / value, 0.85, 1.5)),
    )


def hue_of(model: Image.Image, *, onto: Image.Image) -> Image.Image:
    """Return a sprite with its main hue turned into another's; brightness stays."""
    turn = _main_hue(model)[0] - _main_hue(onto)[0]
    return _shifted(onto, turn=turn, saturation=1.0, value=1.0)


def varied(sprite: Image.Image, *, rng: np.random.Generator) -> Image.Image:
    """Return a sprite with its hue, strength, brightness and proportions slightly changed."""
    changed = _shifted(
        sprite,
        turn=rng.normal(0, 0.025),
        saturation=rng.uniform(0.8, 1.15),
        value=rng.uniform(0.85, 1.08),
    )
    width = round(sprite.width * rng.uniform(0.86, 1.0))
    height = round(sprite.height * rng.uniform(0.86, 1.0))
    narrow = changed.resize((width, height), Image.Resampling.BILINEAR)
    canvas = Image.new("RGBA", sprite.size)
    canvas.alpha_composite(narrow, ((sprite.width - width) // 2, sprite.height - height))
    return canvas


def _main_hue(sprite: Image.Image) -> tuple[float, float, float]:
    """Return a sprite's mean hue, saturation and value, each in [0, 1]; the hue may be negative."""
    small = sprite.resize((32, 32), Image.Resampling.BILINEAR)
    solid = np.asarray(small.getchannel("A")).reshape(-1) > 200
    hsv = np.asarray(small.convert("RGB").convert("HSV")).reshape(-1, 3)[solid] / 255
    if not len(hsv):
        return 0.0, 0.0, 0.0
    angle = hsv[:, 0] * 2 * np.pi
    weight = hsv[:, 1] * hsv[:, 2]
    hue = np.arctan2((np.sin(angle) * weight).sum(), (np.cos(angle) * weight).sum())
    mean = hsv.mean(axis=0)
    return float(hue / (2 * np.pi)), float(mean[1]), float(mean[2])


def _shifted(sprite: Image.Image, *, turn: float, saturation: float, value: float) -> Image.Image:
    hsv = np.array(sprite.convert("RGB").convert("HSV"), dtype=np.float32)
    hsv[..., 0] = (hsv[..., 0] + turn * 255) % 256
    hsv[..., 1] = np.clip(hsv[..., 1] * saturation, 0, 255)
    hsv[..., 2] = np.clip(hsv[..., 2] * value, 0, 255)
    picture = Image.fromarray(hsv.astype(np.uint8), "HSV").convert("RGB")
    picture.putalpha(sprite.getchannel("A"))
    return picture


class Pen:
    """Draws shapes in shares of a square figure's side, shaded as a style shades.

    Args:
        style: noto and twemoji are flat, fluent is lit from above.
    """

    def __init__(self, style: str) -> None:
        self.style = style
        self.canvas = Image.new("RGBA", (FIGURE_PX, FIGURE_PX))

    def ellipse(self, box: Box, colour: Rgb) -> None:
        """Draw an ellipse."""
        self._shape(lambda draw, scaled: draw.ellipse(scaled, fill=255), box=box, colour=colour)

    def block(self, box: Box, colour: Rgb, *, radius: float = 0.04) -> None:
        """Draw a rectangle with round corners."""
        rounding = radius * FIGURE_PX

        def shape(draw: ImageDraw.ImageDraw, scaled: Box) -> None:
            draw.rounded_rectangle(scaled, radius=rounding, fill=255)

        self._shape(shape, box=box, colour=colour)

    def ring(self, box: Box, colour: Rgb, *, width: float = 0.025) -> None:
        """Draw the outline of an ellipse."""
        thick = max(2, round(width * FIGURE_PX))

        def shape(draw: ImageDraw.ImageDraw, scaled: Box) -> None:
            draw.ellipse(scaled, outline=255, width=thick)

        self._shape(shape, box=box, colour=colour)

    def paste(self, sprite: Image.Image, box: Box) -> None:
        """Draw a sprite into a box."""
        left, top, right, bottom = (round(share * FIGURE_PX) for share in box)
        size = (max(1, right - left), max(1, bottom - top))
        layer = Image.new("RGBA", self.canvas.size)
        layer.paste(sprite.resize(size, Image.Resampling.LANCZOS), (left, top))
        self.canvas.alpha_composite(layer)

    def _shape(
        self, shape: Callable[[ImageDraw.ImageDraw, Box], None], *, box: Box, colour: Rgb
    ) -> None:
        mask = Image.new("L", self.canvas.size)
        left, top, right, bottom = (share * FIGURE_PX for share in box)
        shape(ImageDraw.Draw(mask), (left, top, right, bottom))
        layer = Image.fromarray(self._shading(colour, top=top, bottom=bottom), "RGB")
        layer.putalpha(mask)
        self.canvas.alpha_composite(layer)

    def _shading(self, colour: Rgb, *, top: float, bottom: float) -> np.ndarray:
        depth = {"fluent": 0.3, "noto": 0.12}.get(self.style, 0.0)
        place = (np.arange(FIGURE_PX) - top) / max(1.0, bottom - top)
        light = 1 + depth * (0.4 - np.clip(place, 0, 1))
        rows = np.clip(np.array(colour)[None, :] * light[:, None], 0, 255)
        return np.repeat(rows[:, None, :], FIGURE_PX, axis=1).astype(np.uint8)


def with_body(head: Image.Image, *, style: str, rng: np.random.Generator) -> Figure:
    """Return a head on a body in its own colours, seated or standing.

    Args:
        head: RGBA; cut to what it shows.
        style: drawing style of the head, which the body follows.
        rng: source of every random choice.
    """
    fur, second = main_colours(head)
    limbs = mixed(second, fur, 0.0 if min(fur) > 190 else 0.85)
    belly = mixed(fur, (255, 250, 240), 0.55) if rng.random() < _BELLY_RATE else fur
    pen = Pen(style)
    if rng.random() < _SEATED_RATE:
        neck = _seat(pen, fur=fur, limbs=limbs, belly=belly, rng=rng)
    else:
        neck = _stand(pen, fur=fur, limbs=limbs, belly=belly, rng=rng)
    return _crowned(pen, head=head, neck=neck, width=rng.uniform(0.56, 0.7))


def with_machine(head: Image.Image, *, style: str, rng: np.random.Generator) -> Figure:
    """Return a robot's head on a body of blocks in its own colours."""
    metal, second = main_colours(head)
    joints = mixed(second, (90, 95, 105), 0.4)
    pen = Pen(style)
    wide = rng.uniform(0.18, 0.25)
    for side in (-1, 1):
        arm, leg = 0.5 + side * (wide + 0.07), 0.5 + side * wide * 0.55
        pen.block((arm - 0.05, 0.6, arm + 0.05, rng.uniform(0.8, 0.88)), joints)
        pen.block((leg - 0.07, 0.8, leg + 0.07, 1.0), joints)
    pen.block((0.5 - wide, 0.54, 0.5 + wide, 0.88), metal)
    panel = mixed(metal, (255, 255, 255), 0.5)
    pen.block((0.5 - wide * 0.6, 0.64, 0.5 + wide * 0.6, 0.78), panel, radius=0.02)
    return _crowned(pen, head=head, neck=0.58, width=rng.uniform(0.5, 0.62))


def _crowned(pen: Pen, *, head: Image.Image, neck: float, width: float) -> Figure:
    shown = head.crop(head.getbbox())
    height = min(width * shown.height / shown.width, neck + 0.02)
    width = height * shown.width / shown.height
    box = (0.5 - width / 2, neck - height, 0.5 + width / 2, neck)
    pen.paste(shown, box)
    return Figure(pen.canvas, head=box)


def _seat(pen: Pen, *, fur: Rgb, limbs: Rgb, belly: Rgb, rng: np.random.Generator) -> float:
    wide, reach = rng.uniform(0.2, 0.27), rng.uniform(0.22, 0.3)
    pen.ellipse((0.5 - wide, 0.5, 0.5 + wide, 0.97), fur)
    pen.ellipse((0.5 - wide * 0.62, 0.6, 0.5 + wide * 0.62, 0.93), belly)
    sole = mixed(limbs, (255, 235, 220), 0.45)
    for side in (-1, 1):
        foot, hand = 0.5 + side * reach, 0.5 + side * (wide + 0.02)
        pen.ellipse((hand - 0.075, 0.56, hand + 0.075, 0.8), limbs)
        pen.ellipse((foot - 0.115, 0.77, foot + 0.115, 1.0), limbs)
        pen.ellipse((foot - 0.06, 0.83, foot + 0.06, 0.95), sole)
    return 0.6


def _stand(pen: Pen, *, fur: Rgb, limbs: Rgb, belly: Rgb, rng: np.random.Generator) -> float:
    wide = rng.uniform(0.15, 0.21)
    for side in (-1, 1):
        leg, arm = 0.5 + side * wide * 0.6, 0.5 + side * (wide + 0.03)
        pen.block((leg - 0.065, 0.78, leg + 0.065, 1.0), limbs, radius=0.06)
        pen.ellipse((arm - 0.06, 0.55, arm + 0.06, 0.82), limbs)
    pen.ellipse((0.5 - wide, 0.48, 0.5 + wide, 0.9), fur)
    pen.ellipse((0.5 - wide * 0.6, 0.58, 0.5 + wide * 0.6, 0.86), belly)
    return 0.57


def top_of(sprite: Image.Image) -> Box:
    """Return a box as high as a head where a figure without a known head is highest."""
    alpha = np.asarray(sprite.getchannel("A")) > 128
    rows = np.flatnonzero(alpha.any(axis=1))
    if not len(rows):
        return (0.25, 0.25, 0.75, 0.75)
    side = alpha.shape[0]
    band = alpha[rows[0] : rows[0] + side // 10]
    middle = float(np.flatnonzero(band.any(axis=0)).mean()) / side
    top = rows[0] / side
    return (middle - 0.2, top, middle + 0.2, top + 0.4)


def dressed(figure: Figure, *, piece: str, colour: str, style: str) -> Figure:
    """Return a figure that wears a piece of clothing.

    Args:
        figure: what wears it.
        piece: hat, scarf or glasses; the last two need a known head.
        colour: one of PLAIN_COLOURS.
        style: drawing style.
    """
    box = figure.head or top_of(figure.sprite)
    pen = Pen(style)
    pen.canvas.alpha_composite(figure.sprite)
    tint = _rgb(np.array(PLAIN_COLOURS[colour]))
    {"hat": _hat, "scarf": _scarf, "glasses": _glasses}[piece](pen, box, tint)
    return Figure(pen.canvas, head=figure.head)


def _hat(pen: Pen, head: Box, tint: Rgb) -> None:
    left, top, right, _ = head
    middle, wide = (left + right) / 2, (right - left) * 0.38
    brim = max(top + 0.06, 0.17)
    pen.block((middle - wide * 0.62, brim - 0.16, middle + wide * 0.62, brim + 0.02), tint)
    band = mixed(tint, (20, 20, 24) if sum(tint) > 120 else (230, 230, 230), 0.55)
    pen.block((middle - wide * 0.62, brim - 0.05, middle + wide * 0.62, brim), band, radius=0.0)
    pen.ellipse((middle - wide, brim - 0.025, middle + wide, brim + 0.045), tint)


def _scarf(pen: Pen, head: Box, tint: Rgb) -> None:
    left, _, right, neck = head
    middle, wide = (left + right) / 2, (right - left) * 0.36
    pen.block((middle + wide * 0.2, neck, middle + wide * 0.75, neck + 0.24), tint)
    pen.block((middle - wide, neck - 0.05, middle + wide, neck + 0.06), tint, radius=0.05)


def _glasses(pen: Pen, head: Box, tint: Rgb) -> None:
    left, top, right, neck = head
    middle, wide, eyes = (left + right) / 2, right - left, top + (neck - top) * 0.52
    radius = wide * 0.16
    for side in (-1, 1):
        x = middle + side * wide * 0.2
        pen.ring((x - radius, eyes - radius, x + radius, eyes + radius), tint, width=0.035)
    pen.block((middle - wide * 0.06, eyes - 0.015, middle + wide * 0.06, eyes + 0.015), tint)
