import re

from boothline.report.drawing import MAX_NODES, layers_of, lineage_chart
from boothline.report.model import LineageLink, LineageNode


def node(digest: str, kind: str, *inputs: str) -> LineageNode:
    return LineageNode(
        digest=digest * 64,
        path="",
        kind=kind,
        uri="",
        num_files=0,
        size_bytes=0,
        created_at="",
        content_digest="",
        inputs=tuple(LineageLink(digest=d * 64, kind="", known=True) for d in inputs),
    )


CHAIN = [node("c", "model", "b", "a"), node("b", "training", "a"), node("a", "dataset")]


def test_layers_put_each_node_after_all_of_its_inputs() -> None:
    layers = layers_of([*CHAIN, node("e", "prior")])

    assert [[item.kind for item in layer] for layer in layers] == [
        ["dataset", "prior"],
        ["training"],
        ["model"],
    ]


def test_layers_ignore_inputs_that_are_not_known() -> None:
    assert len(layers_of([node("a", "dataset", "f")])) == 1


def test_lineage_chart_draws_every_node_and_edge() -> None:
    html = lineage_chart(CHAIN)

    assert html.count("<rect") == 3
    # Two edges between neighbours, and one that passes the layer of the training: three parts.
    assert html.count('class="edge"') == 2 + 3
    assert set(re.findall(r'href="#m-(\w+)"', html)) == {"a" * 12, "b" * 12, "c" * 12}


def test_lineage_chart_of_too_many_nodes_is_left_to_the_cards() -> None:
    assert lineage_chart([CHAIN[2]] * (MAX_NODES + 1)) == ""
    assert lineage_chart(CHAIN[2:]) == ""


def test_lineage_chart_escapes_kinds() -> None:
    assert "<script>" not in lineage_chart([*CHAIN, node("d", "<script>")])


def test_edges_run_around_the_boxes_that_they_do_not_touch() -> None:
    nodes = [
        node("f", "promotion", "e", "c"),
        node("e", "evaluation", "d", "c"),
        node("d", "images", "c"),
        *CHAIN,
    ]

    html = lineage_chart(nodes)

    boxes = [
        tuple(map(float, found))
        for found in re.findall(
            r'<rect x="([\d.-]+)" y="([\d.-]+)" width="([\d.]+)" height="([\d.]+)"', html
        )
    ]
    passages = re.findall(r'd="M([\d.-]+) ([\d.-]+)H([\d.-]+)"', html)
    assert len(boxes) == len(nodes)
    assert passages
    for x1, y, x2 in (tuple(map(float, found)) for found in passages):
        assert not [b for b in boxes if b[0] < x2 and x1 < b[0] + b[2] and b[1] <= y <= b[1] + b[3]]
    for x1, x2 in re.findall(r'd="M([\d.-]+) [\d.-]+C[^"]* ([\d.-]+) [\d.-]+"', html):
        assert not [b for b in boxes if b[0] < float(x2) - 0.2 and float(x1) + 0.2 < b[0] + b[2]]
