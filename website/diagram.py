"""Draws docs/pictures/pipeline.svg from pipeline.yaml: `python -m website.diagram`, `make docs`."""

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import yaml

from website.links import DOCS

SOURCE = DOCS / "pictures" / "pipeline.yaml"
PICTURE = DOCS / "pictures" / "pipeline.svg"
WIDTH, HEIGHT = 192, 74  # of a box
COLUMN, ROW, MARGIN = 222, 118, 20
_FONT = "font-family: Helvetica, Arial, 'DejaVu Sans', sans-serif"
_STYLE = f"""
  text {{ {_FONT}; fill: #1f2430; text-anchor: middle }}
  .name {{ font-size: 16px; font-weight: bold }}
  .text, .band {{ font-size: 13.5px }}
  .given {{ fill: #fff3d6; stroke: #8a6100 }}
  .step {{ fill: #e8ecfb; stroke: #3f51b5 }}
  .gate {{ fill: #dff3e4; stroke: #1b6e36; stroke-width: 2.5 }}
  .store {{ fill: #f0f0f3; stroke: #5c6070 }}
  .arrow {{ stroke: #3a3f4f; stroke-width: 1.8; fill: none; marker-end: url(#head) }}
"""


def drawing(source: Mapping[str, Any]) -> str:
    """Return the picture that a source describes, as SVG on a light ground of its own."""
    columns = 1 + max(box["at"][0] for box in source["boxes"])
    rows = 1 + max(box["at"][1] for box in source["boxes"])
    width = 2 * MARGIN + (columns - 1) * COLUMN + WIDTH
    height = 2 * MARGIN + rows * ROW + 44
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" role="img" aria-labelledby="title">',
        f'<title id="title">{escape(source["title"])}</title>',
        f"<style>{_STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7"'
        ' markerHeight="7" orient="auto"><path d="M0 0 10 5 0 10z" fill="#3a3f4f"/></marker>'
        "</defs>",
        f'<rect width="{width}" height="{height}" rx="10" fill="#ffffff"/>',
        *(line for box in source["boxes"] for line in _box(box)),
        *_arrows(source),
        f'<rect class="store" x="{MARGIN}" y="{height - MARGIN - 44}" width="{width - 2 * MARGIN}"'
        ' height="44" rx="8"/>',
        f'<text class="band" x="{width / 2:g}" y="{height - MARGIN - 17}">'
        f"{escape(source['band'])}</text>",
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _corner(box: Mapping[str, Any]) -> tuple[int, int]:
    return MARGIN + box["at"][0] * COLUMN, MARGIN + box["at"][1] * ROW


def _box(box: Mapping[str, Any]) -> Iterator[str]:
    x, y = _corner(box)
    yield f'<rect class="{box["kind"]}" x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="8"/>'
    middle = x + WIDTH // 2
    yield f'<text class="name" x="{middle}" y="{y + 32}">{escape(box["name"])}</text>'
    yield f'<text class="text" x="{middle}" y="{y + 54}">{escape(box["text"])}</text>'


def _arrows(source: Mapping[str, Any]) -> Iterator[str]:
    """Yield an arrow between each two neighbours: along a row, or down a column."""
    corners = {box["name"]: _corner(box) for box in source["boxes"]}
    for start, end in source["arrows"]:
        (x, y), (to_x, to_y) = corners[start], corners[end]
        if y == to_y:
            begin, finish = (x + WIDTH, to_x - 3) if to_x > x else (x, to_x + WIDTH + 3)
            path = f"M{begin} {y + HEIGHT // 2} H{finish}"
        else:
            path = f"M{x + WIDTH // 2} {y + HEIGHT} V{to_y - 3}"
        yield f'<path class="arrow" d="{path}"/>'


def read(path: Path = SOURCE) -> dict[str, Any]:
    """Return the source of the picture."""
    source: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return source


def main() -> None:
    """Write the picture."""
    PICTURE.write_text(drawing(read()), encoding="utf-8")


if __name__ == "__main__":
    main()
