"""Draws for the report: ticks and numbers of axes, and the lineage as a small layered graph."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from boothline.report.model import LineageNode

_NICE = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Scale:
    """Maps values linearly from [low, high] to [start, end], in pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the position of a value, in pixels, to one decimal."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def tick_step(low: float, high: float, *, count: int = 5) -> float:
    """Return the round distance (1, 2, 2.5 or 5 x a power of ten) for about `count` ticks."""
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    return next(nice * power for nice in _NICE if nice * power >= rough * 0.999)


def padded_range(
    values: list[float], *, padding: float = 0.08, floor: float | None = None
) -> tuple[float, float]:
    """Return a range around the values that is never empty.

    Args:
        values: finite numbers, at least one.
        padding: share of the span that is added on both sides.
        floor: the range never goes below it (values that do are kept inside).
    """
    low, high = min(values), max(values)
    span = (high - low) or max(abs(high), 1.0) * 0.1
    padded_low, padded_high = low - padding * span, high + padding * span
    if floor is not None and low >= floor:
        padded_low = max(floor, padded_low)
    return padded_low, padded_high


def ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """Return the round values inside a range, lowest first."""
    step = tick_step(low, high, count=count)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def tick_label(value: float, step: float) -> str:
    """Return a tick's text with the decimals that its distance needs."""
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if round(step * 10**decimals, 6) != round(step * 10**decimals):
        decimals += 1
    return f"{value:.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def number(value: float, decimals: int = 3) -> str:
    """Return a number with a true minus sign."""
    return f"{value:.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def signed(value: float, decimals: int = 3) -> str:
    """Return a number that always carries its sign."""
    return f"{value:+.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def duration(seconds: float) -> str:
    """Return a duration for people: `0.8 s`, `42 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def size(num_bytes: int) -> str:
    """Return a size for people, in decimal units: `814 B`, `12.4 kB`, `3.1 MB`."""
    if num_bytes < 1000:
        return f"{num_bytes} B"
    value, unit = num_bytes / 1000, "kB"
    for larger in ("MB", "GB", "TB"):
        if value < 999.95:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f} {unit}"


def energy(joules: float) -> str:
    """Return an energy for people: `0.4 J`, `350 J`, `1.25 Wh`, `2.10 kWh`."""
    if joules < 9.95:
        return f"{joules:.1f} J"
    if joules < 3600:
        return f"{joules:.0f} J"
    hours = joules / 3600
    return f"{hours:.2f} Wh" if hours < 999.5 else f"{hours / 1000:.2f} kWh"


def processor_time(seconds: float) -> str:
    """Return processor time of one unit: `0.035 s`, `1.25 s`, `42 s`."""
    decimals = 3 if seconds < 1 else 2 if seconds < 10 else 0
    return f"{seconds:.{decimals}f} s"


MAX_NODES = 40
WIDTH = 880
BOX_HEIGHT = 44
ROW_GAP = 18
COLUMN_GAP = 40
MAX_BOX_WIDTH = 132
PASSAGE_HEIGHT = 6


def layers_of(nodes: Sequence[LineageNode]) -> list[list[LineageNode]]:
    """Return the nodes in layers: each stands right of all that it was made from."""
    by_digest = {node.digest: node for node in nodes}
    depths: dict[str, int] = {}

    def depth(node: LineageNode) -> int:
        if node.digest not in depths:
            inputs = [by_digest[link.digest] for link in node.inputs if link.digest in by_digest]
            depths[node.digest] = 1 + max(map(depth, inputs), default=-1)
        return depths[node.digest]

    layers: list[list[LineageNode]] = [[] for _ in range(1 + max(map(depth, nodes), default=-1))]
    for node in sorted(nodes, key=lambda node: (node.kind, node.digest)):
        layers[depth(node)].append(node)
    return layers


@dataclass
class _Slot:
    """A place in a layer: a node, or where an edge passes one that it does not touch.

    Attributes:
        node: the node; None: an edge passes here.
        before: the slots of the layer to the left that lead here.
        row: its place from above.
        y: its middle.
    """

    node: LineageNode | None = None
    before: list["_Slot"] = field(default_factory=list)
    row: float = 0.0
    y: float = 0.0

    @property
    def height(self) -> float:
        """Pixels that it takes."""
        return BOX_HEIGHT if self.node else PASSAGE_HEIGHT


def _slots_of(layers: Sequence[Sequence[LineageNode]]) -> list[list[_Slot]]:
    """Return the layers with a slot for every edge in every layer that it passes, in order.

    Neighbours of the layer to the left decide the order, so that few edges cross.
    """
    columns: list[list[_Slot]] = [[_Slot(node=node) for node in layer] for layer in layers]
    found = {
        slot.node.digest: (depth, slot)
        for depth, column in enumerate(columns)
        for slot in column
        if slot.node
    }
    for depth, slot in list(found.values()):
        for link in slot.node.inputs if slot.node else ():
            if link.digest not in found:
                continue
            start, last = found[link.digest]
            for column in columns[start + 1 : depth]:
                last = _Slot(before=[last])
                column.append(last)
            slot.before.append(last)
    for column in columns:
        column.sort(key=lambda slot: _middle([each.row for each in slot.before]))
        for row, slot in enumerate(column):
            slot.row = float(row)
    return columns


def _middle(rows: Sequence[float]) -> float:
    return sum(rows) / len(rows) if rows else 0.0


def lineage_chart(nodes: Sequence[LineageNode]) -> Markup:
    """Return the graph without parts; an empty string for one node alone or more than fit."""
    nodes = [node for node in nodes if not node.is_part]
    if not 1 < len(nodes) <= MAX_NODES:
        return Markup("")
    layers = layers_of(nodes)
    columns = _slots_of(layers)
    box_width = min(MAX_BOX_WIDTH, (WIDTH - COLUMN_GAP * (len(layers) - 1)) / len(layers))
    stride = (WIDTH - box_width) / max(1, len(layers) - 1)
    height = max(_height_of(column) for column in columns)
    edges, boxes = Markup(""), Markup("")
    for number, column in enumerate(columns):
        x, y = number * stride, (height - _height_of(column)) / 2
        for slot in column:
            slot.y = y + slot.height / 2
            for before in slot.before:
                edges += _edge((x - stride + box_width, before.y), (x, slot.y))
            if slot.node:
                boxes += _box(slot.node, (x, y), box_width)
            else:
                edges += _passage(x, slot.y, box_width)
            y += slot.height + ROW_GAP
    return Markup(
        '<svg class="graph" viewBox="-2 -2 {} {}" role="group" aria-label="Lineage, drawn">'
        "{}{}</svg>"
    ).format(WIDTH + 4, height + 4, edges, boxes)


def _height_of(column: Sequence[_Slot]) -> float:
    """Return the pixels that a layer takes."""
    return sum(slot.height + ROW_GAP for slot in column) - ROW_GAP


def _passage(x: float, y: float, width: float) -> Markup:
    """Return the part of an edge that passes a layer."""
    return Markup('<path class="edge" d="M{:.1f} {:.1f}H{:.1f}"/>').format(x, y, x + width)


def _edge(start: tuple[float, float], end: tuple[float, float]) -> Markup:
    """Return the curve between two layers, which never leaves the gap between them."""
    (x1, y1), (x2, y2) = start, end
    bend = (x2 - x1) / 2
    return Markup(
        '<path class="edge" d="M{:.1f} {:.1f}C{:.1f} {:.1f} {:.1f} {:.1f} {:.1f} {:.1f}"/>'
    ).format(x1, y1, x1 + bend, y1, x2 - bend, y2, x2, y2)


def _box(node: LineageNode, place: tuple[float, float], box_width: float) -> Markup:
    """Return one manifest as a link to its card."""
    x, y = place
    return Markup(
        '<a href="#m-{}"><rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{}" rx="7"/>'
        '<text class="kind" x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>'
        '<text class="short" x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text></a>'
    ).format(
        node.digest[:12],
        x,
        y,
        box_width,
        BOX_HEIGHT,
        x + box_width / 2,
        y + 18,
        node.kind.replace("_", " ").capitalize(),
        x + box_width / 2,
        y + 34,
        node.digest[:8],
    )
