"""Draws the lineage as a small layered graph: sources on the left, results on the right."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from boothline.report.model import LineageNode

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
