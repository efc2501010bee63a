"""Draws the lineage as a small layered graph: sources on the left, results on the right."""

from collections.abc import Sequence

from markupsafe import Markup

from boothline.report.model import LineageNode

MAX_NODES = 40
WIDTH = 880
BOX_HEIGHT = 44
ROW_GAP = 18
COLUMN_GAP = 40
MAX_BOX_WIDTH = 132


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


def lineage_chart(nodes: Sequence[LineageNode]) -> Markup:
    """Return the graph without parts; an empty string for one node alone or more than fit."""
    nodes = [node for node in nodes if not node.is_part]
    if not 1 < len(nodes) <= MAX_NODES:
        return Markup("")
    layers = layers_of(nodes)
    box_width = min(MAX_BOX_WIDTH, (WIDTH - COLUMN_GAP * (len(layers) - 1)) / len(layers))
    stride = (WIDTH - box_width) / max(1, len(layers) - 1)
    rows = max(map(len, layers))
    height = rows * (BOX_HEIGHT + ROW_GAP) - ROW_GAP
    places: dict[str, tuple[float, float]] = {}
    for column, layer in enumerate(layers):
        top = (height - len(layer) * (BOX_HEIGHT + ROW_GAP) + ROW_GAP) / 2
        for row, node in enumerate(layer):
            places[node.digest] = (column * stride, top + row * (BOX_HEIGHT + ROW_GAP))
    edges = Markup("").join(
        _edge(places[link.digest], places[node.digest], box_width)
        for node in nodes
        for link in node.inputs
        if link.digest in places
    )
    boxes = Markup("").join(_box(node, places[node.digest], box_width) for node in nodes)
    return Markup(
        '<svg class="graph" viewBox="-2 -2 {} {}" role="group" aria-label="Lineage, drawn">'
        "{}{}</svg>"
    ).format(WIDTH + 4, height + 4, edges, boxes)


def _edge(start: tuple[float, float], end: tuple[float, float], box_width: float) -> Markup:
    """Return the curve from an input to what was made from it."""
    x1, y1 = start[0] + box_width, start[1] + BOX_HEIGHT / 2
    x2, y2 = end[0], end[1] + BOX_HEIGHT / 2
    bend = max(24.0, (x2 - x1) / 2)
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
