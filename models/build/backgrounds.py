"""Draws the procedural backgrounds of the picture world, at any size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Canvas = NDArray[np.float32]
"""Pixels as (size, size, 3) float32 in [0, 255]."""
Colour = tuple[float, float, float]

WORLD_PX: Final = 64

PLAIN_COLOURS: Final[dict[str, Colour]] = {
    "red": (214, 60, 54),
    "blue": (52, 96, 200),
    "green": (60, 160, 80),
    "yellow": (240, 205, 70),
    "white": (245, 245, 245),
    "black": (24, 24, 26),
    "pink": (240, 150, 190),
    "purple": (130, 80, 180),
    "orange": (240, 140, 50),
    "grey": (128, 128, 132),
}


class Painter:
    """Paints one background on a square canvas.

    Args:
        rng: source of every random choice.
        size_px: side of the canvas; features scale with it, so large pictures look alike.
    """

    def __init__(self, rng: np.random.Generator, *, size_px: int = WORLD_PX) -> None:
        self.rng = rng
        self.size = size_px
        self.unit = size_px / WORLD_PX
        self.canvas: Canvas = np.zeros((size_px, size_px, 3), np.float32)
        self.horizon = int(size_px * rng.uniform(0.4, 0.6))

    def jitter(self, colour: Colour, *, spread: float = 7.0) -> Canvas:
        """Return a colour moved by normal noise, in [0, 255]."""
        moved = np.clip(np.array(colour) + self.rng.normal(0, spread, 3), 0, 255)
        return np.array(moved, np.float32)

    def sky(self, top: Colour, bottom: Colour) -> None:
        """Fill the canvas with a vertical gradient."""
        weight = np.linspace(0, 1, self.size, dtype=np.float32)[:, None, None]
        self.canvas[:] = self.jitter(top) * (1 - weight) + self.jitter(bottom) * weight

    def ground(self, colour: Colour, *, start: int, grain_px: int, amplitude: float) -> None:
        """Fill the rows from `start` down with a grainy colour."""
        self.canvas[start:] = self.jitter(colour)
        grain = self.noise(self.size - start, grain_px=grain_px)
        self.canvas[start:] += grain[..., None] * amplitude

    def noise(self, height: int, *, grain_px: int) -> NDArray[np.float32]:
        """Return smooth noise as (height, size) in about [-0.5, 0.5]."""
        grain = max(1, round(grain_px * self.unit))
        coarse = self.rng.random((max(2, height // grain), max(2, self.size // grain)))
        picture = Image.fromarray((coarse * 255).astype(np.uint8))
        smooth = picture.resize((self.size, height), Image.Resampling.BICUBIC)
        return np.array(smooth, dtype=np.float32) / np.float32(255) - np.float32(0.5)

    def stars(self, count: int, *, above: int) -> None:
        """Scatter soft two-pixel stars over the rows above a row."""
        side = max(2, round(2 * self.unit))
        for _ in range(count):
            y = int(self.rng.integers(0, max(1, above - side)))
            x = int(self.rng.integers(0, self.size - side))
            self.canvas[y : y + side, x : x + side] = self.rng.uniform(150, 245)

    def draw(self, paint: Callable[[ImageDraw.ImageDraw], None]) -> None:
        """Let a function draw shapes on the canvas."""
        picture = Image.fromarray(np.clip(self.canvas, 0, 255).astype(np.uint8))
        paint(ImageDraw.Draw(picture))
        self.canvas = np.array(picture, dtype=np.float32)

    def picture(self) -> Image.Image:
        """Return the canvas as an RGB picture."""
        return Image.fromarray(np.clip(self.canvas, 0, 255).astype(np.uint8))


def _grass(painter: Painter) -> None:
    painter.sky((130, 190, 240), (200, 230, 250))
    painter.ground((80, 160, 60), start=painter.horizon, grain_px=4, amplitude=36)


def _beach(painter: Painter) -> None:
    painter.sky((120, 190, 245), (190, 225, 250))
    shore = painter.horizon + round(8 * painter.unit)
    painter.canvas[painter.horizon :] = painter.jitter((40, 130, 190))
    painter.ground((235, 210, 150), start=shore, grain_px=3, amplitude=14)


def _snow(painter: Painter) -> None:
    painter.sky((165, 190, 218), (215, 228, 240))
    painter.ground((243, 246, 250), start=painter.horizon, grain_px=6, amplitude=6)
    painter.stars(14, above=painter.size)


def _desert(painter: Painter) -> None:
    painter.sky((250, 190, 120), (255, 225, 170))
    painter.ground((215, 150, 85), start=painter.horizon, grain_px=7, amplitude=40)


def _ocean(painter: Painter) -> None:
    painter.sky((150, 205, 245), (205, 230, 250))
    start = painter.horizon
    painter.canvas[start:] = painter.jitter((25, 90, 165))
    depth = np.linspace(0, 1, painter.size - start, dtype=np.float32)[:, None]
    phase = depth**0.7 * 24 + painter.noise(painter.size - start, grain_px=8) * 6
    painter.canvas[start:] += np.sin(phase)[..., None] * 15


def _night_sky(painter: Painter) -> None:
    painter.sky((8, 10, 40), (40, 40, 90))
    painter.stars(16, above=painter.size)


def _moon(painter: Painter) -> None:
    painter.canvas[:] = (8, 8, 14)
    painter.stars(12, above=painter.horizon)
    painter.canvas[painter.horizon :] = painter.jitter((150, 150, 152))

    def craters(pen: ImageDraw.ImageDraw) -> None:
        for _ in range(5):
            x = int(painter.rng.integers(0, painter.size))
            y = int(painter.rng.integers(painter.horizon + round(3 * painter.unit), painter.size))
            radius = painter.rng.uniform(2.5, 7) * painter.unit
            box = (x - radius, y - radius / 2, x + radius, y + radius / 2)
            pen.ellipse(box, fill=(115, 115, 118))

    painter.draw(craters)


def _city_street(painter: Painter) -> None:
    painter.sky((150, 180, 210), (210, 220, 230))
    rng, unit, size = painter.rng, painter.unit, painter.size
    base = size * 0.72

    def street(pen: ImageDraw.ImageDraw) -> None:
        x = 0.0
        while x < size:
            width, height = rng.integers(9, 16) * unit, rng.integers(18, 45) * unit
            grey = int(rng.uniform(75, 145))
            pen.rectangle((x, base - height, x + width - 1, base), fill=(grey, grey, grey + 12))
            for window_y in np.arange(base - height + 3 * unit, base - 3 * unit, 6 * unit):
                for window_x in np.arange(x + 2 * unit, x + width - 3 * unit, 4 * unit):
                    box = (window_x, window_y, window_x + 2 * unit - 1, window_y + 2 * unit - 1)
                    pen.rectangle(box, fill=(235, 215, 135))
            x += width
        pen.rectangle((0, base, size, size), fill=(75, 75, 80))
        pen.rectangle((0, size * 0.85, size, size * 0.88), fill=(230, 220, 120))

    painter.draw(street)


def _forest(painter: Painter) -> None:
    painter.sky((120, 165, 140), (165, 200, 160))
    rng, unit, size = painter.rng, painter.unit, painter.size
    ground = size * 0.74
    painter.ground((70, 95, 45), start=round(ground), grain_px=5, amplitude=24)

    def trees(pen: ImageDraw.ImageDraw) -> None:
        for _ in range(7):
            x, wide = rng.uniform(0, size), rng.uniform(7, 12) * unit
            tip, shade = ground - rng.uniform(26, 46) * unit, int(rng.uniform(60, 105))
            trunk = (x - unit * 1.5, ground - 6 * unit, x + unit * 1.5, ground)
            pen.rectangle(trunk, fill=(95, 65, 40))
            foot = ground - 4 * unit
            pen.polygon(((x - wide, foot), (x, tip), (x + wide, foot)), fill=(30, shade, 50))

    painter.draw(trees)


def _mountains(painter: Painter) -> None:
    painter.sky((120, 170, 225), (205, 225, 240))
    rng, unit, size = painter.rng, painter.unit, painter.size
    ground = size * 0.76

    def peaks(pen: ImageDraw.ImageDraw) -> None:
        for x in np.arange(0, size + 1, 16 * unit):
            middle, tip = x + rng.uniform(-5, 5) * unit, rng.uniform(8, 24) * unit
            wide, grey = rng.uniform(18, 26) * unit, int(rng.uniform(95, 130))
            foot = ((middle - wide, ground), (middle, tip), (middle + wide, ground))
            pen.polygon(foot, fill=(grey, grey, grey + 18))
            cap, share = 9 * unit, 9 * unit / (ground - tip) * wide
            snow = ((middle - share, tip + cap), (middle, tip), (middle + share, tip + cap))
            pen.polygon(snow, fill=(245, 247, 250))

    painter.draw(peaks)
    painter.ground((105, 130, 85), start=round(ground), grain_px=5, amplitude=20)


def _meadow(painter: Painter) -> None:
    painter.sky((135, 195, 245), (205, 232, 250))
    painter.ground((110, 180, 75), start=painter.horizon, grain_px=5, amplitude=20)
    rng, unit = painter.rng, painter.unit
    colours = ((240, 90, 120), (250, 220, 80), (245, 245, 245), (180, 110, 220))

    def flowers(pen: ImageDraw.ImageDraw) -> None:
        for number in range(16):
            x, y = rng.uniform(0, painter.size), rng.uniform(painter.horizon + 3, painter.size)
            box = (x - 1.5 * unit, y - 1.5 * unit, x + 1.5 * unit, y + 1.5 * unit)
            pen.ellipse(box, fill=colours[number % len(colours)])

    painter.draw(flowers)


def _sunset(painter: Painter) -> None:
    painter.sky((90, 60, 130), (250, 150, 80))
    size, unit = painter.size, painter.unit
    x, radius = painter.rng.uniform(0.2, 0.8) * size, 9 * unit
    sun = (x - radius, painter.horizon - radius, x + radius, painter.horizon + radius)
    painter.draw(lambda pen: pen.ellipse(sun, fill=(255, 225, 130)))
    painter.ground((70, 45, 75), start=painter.horizon + round(5 * unit), grain_px=7, amplitude=14)


def _wooden_floor(painter: Painter) -> None:
    painter.canvas[:] = painter.jitter((225, 215, 200))
    rng, unit, size = painter.rng, painter.unit, painter.size
    wall = round(painter.horizon * 0.9)
    painter.canvas[wall:] = painter.jitter((170, 115, 70))

    def boards(pen: ImageDraw.ImageDraw) -> None:
        y, step = float(wall), 5 * unit
        while y < size:
            tint = int(rng.uniform(-12, 12))
            pen.rectangle((0, y, size, y + step), fill=(170 + tint, 115 + tint, 70 + tint))
            pen.rectangle((0, y, size, y + unit - 1), fill=(120, 80, 50))
            y, step = y + step, step * 1.25

    painter.draw(boards)


def _brick_wall(painter: Painter) -> None:
    painter.canvas[:] = painter.jitter((195, 180, 170))
    rng, unit, size = painter.rng, painter.unit, painter.size
    ground = round(size * 0.86)

    def bricks(pen: ImageDraw.ImageDraw) -> None:
        for row, y in enumerate(np.arange(0, ground, 8 * unit)):
            for x in np.arange(-8 * unit if row % 2 else 0, size, 16 * unit):
                red = int(rng.uniform(150, 185))
                box = (x, y, x + 14 * unit, y + 6 * unit)
                pen.rectangle(box, fill=(red, red // 2, red // 2 - 10))

    painter.draw(bricks)
    painter.ground((130, 130, 132), start=ground, grain_px=5, amplitude=10)


_SCENERY: Final[dict[str, Callable[[Painter], None]]] = {
    "grass": _grass,
    "the beach": _beach,
    "snow": _snow,
    "the desert": _desert,
    "the ocean": _ocean,
    "the night sky": _night_sky,
    "the moon": _moon,
    "a city street": _city_street,
    "a forest": _forest,
    "the mountains": _mountains,
    "a meadow": _meadow,
    "sunset": _sunset,
    "a wooden floor": _wooden_floor,
    "a brick wall": _brick_wall,
}


def paint_background(
    name: str, *, rng: np.random.Generator, size_px: int = WORLD_PX
) -> Image.Image:
    """Return a background by its caption name.

    Raises:
        KeyError: the name is neither scenery nor `a <colour> background` of a known colour.
    """
    painter = Painter(rng, size_px=size_px)
    if name in _SCENERY:
        _SCENERY[name](painter)
    else:
        painter.canvas[:] = painter.jitter(PLAIN_COLOURS[name.split()[1]])
    return painter.picture()
