"""Drawn pictures and plausible numbers for a run that never was."""

import io
import json
import math
import random
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw

SCENES = ("#9fd3ff", "#f4e3b2", "#e6eef5", "#c0392b")


def draw(place: int, likeness: float = 1.0, size_px: int = 64) -> bytes:
    """Return a PNG of a bear-like face on a coloured ground; likeness 1 is the subject itself."""
    rng = random.Random(place)
    ground = SCENES[place % len(SCENES)]
    picture = Image.new("RGB", (256, 256), ground)
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 170, 256, 256), fill=("#4b6b3c", "#d8c48f", "#ffffff", "#7d1f16")[place % 4])
    x, y = 128 + rng.randint(-24, 24), 134 + rng.randint(-14, 14)
    fur = tuple(
        round(likeness * a + (1 - likeness) * b)
        for a, b in zip((168, 96, 48), (150, 150, 155), strict=True)
    )
    for dx in (-44, 44):
        pen.ellipse((x + dx - 26, y - 76, x + dx + 26, y - 24), fill=fur)
    pen.ellipse((x - 66, y - 60, x + 66, y + 66), fill=fur)
    pen.ellipse((x - 30, y, x + 30, y + 48), fill="#f1d9b8")
    pen.ellipse((x - 10, y + 6, x + 10, y + 20), fill="#2b1a10")
    for dx in (-26, 26):
        pen.ellipse((x + dx - 8, y - 22, x + dx + 8, y - 6), fill="#1c1310")
    if likeness > 0.5:
        pen.polygon(
            [
                (x - 50, y + 60),
                (x, y + 78),
                (x + 50, y + 60),
                (x + 50, y + 90),
                (x, y + 78),
                (x - 50, y + 90),
            ],
            fill="#c81e3a",
        )
    return png(picture.resize((size_px, size_px), Image.Resampling.LANCZOS))


def png(picture: Image.Image) -> bytes:
    """Return a picture as PNG bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def sheet(likeness: float) -> bytes:
    """Return a sample sheet of four pictures."""
    picture = Image.new("RGB", (4 * 64, 64))
    for place in range(4):
        picture.paste(Image.open(io.BytesIO(draw(place, likeness))), (place * 64, 0))
    return png(picture)


def jsonl(rows: Sequence[dict[str, Any]]) -> bytes:
    """Return rows as JSON lines."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def around(mean: float, width: float) -> dict[str, float]:
    """Return a mean with its interval."""
    return {"mean": mean, "low": mean - width, "high": mean + width * 1.2}


def validation_rows(num_steps: int) -> list[dict[str, Any]]:
    """Return a validation every forty steps; the score is best before the end."""
    return [
        {
            "step": step,
            "instance_loss": 0.06 + 0.1 * math.exp(-step / 40),
            "held_out_loss": 0.09 + 0.08 * math.exp(-step / 40),
            "subject": 0.5 + step / 600,
            "prompt": 0.3 - step / 4000,
            "score": 0.45 - ((step - 80) / 400) ** 2,
        }
        for step in range(40, num_steps + 1, 40)
    ]


Table = dict[str, dict[str, Any]]


def scores_of_contenders(*, champion: bool) -> tuple[Table, Table]:
    """Return plausible metrics and gains of an evaluation."""
    metrics: Table = {
        "finetuned": {
            "dino": around(0.712, 0.021),
            "clip_i": around(0.801, 0.015),
            "clip_t": around(0.287, 0.012),
            "score": around(0.5, 0.012),
            "pres": 0.41,
            "div": 0.38,
        },
        "base": {
            "dino": around(0.441, 0.03),
            "clip_i": around(0.655, 0.02),
            "clip_t": around(0.301, 0.011),
            "score": around(0.371, 0.016),
            "pres": 0.40,
            "div": 0.52,
        },
    }
    gains: Table = {
        "base": {
            "dino": around(0.271, 0.031),
            "clip_t": around(-0.014, 0.009),
            "score": around(0.129, 0.015),
        }
    }
    if champion:
        metrics["champion"] = {
            "dino": around(0.66, 0.025),
            "clip_i": around(0.77, 0.02),
            "clip_t": around(0.295, 0.012),
            "score": around(0.478, 0.014),
        }
        gains["champion"] = {
            "dino": around(0.052, 0.02),
            "clip_t": around(-0.008, 0.01),
            "score": around(0.022, 0.012),
        }
    return metrics, gains
