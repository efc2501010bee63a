"""Files that tests of the command line write: a configuration, and pictures."""

from pathlib import Path

import yaml
from PIL import Image, ImageDraw


def write_config(**sections: object) -> str:
    """Write run.yaml with these sections, and a class noun where it names pictures."""
    if isinstance(subject := sections.get("subject"), dict):
        sections["subject"] = {"class_noun": "bear", **subject}
    Path("run.yaml").write_text(yaml.safe_dump(sections))
    return "run.yaml"


def write_pictures(folder: str, count: int, *, side: int = 96) -> None:
    """Write different pictures into a new folder."""
    Path(folder).mkdir()
    for number in range(count):
        image = Image.new("RGB", (side, side), (60 * number, 120, 200))
        draw = ImageDraw.Draw(image)
        for line in range(0, side, 5):
            shade = line % 96
            draw.line((line, 0, side - line, side), fill=(255 - 2 * shade, 40 * number, shade))
        image.save(f"{folder}/{number}.png")
