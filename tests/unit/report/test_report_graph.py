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
    assert html.count('class="edge"') == 3
    assert set(re.findall(r'href="#m-(\w+)"', html)) == {"a" * 12, "b" * 12, "c" * 12}


def test_lineage_chart_of_too_many_nodes_is_left_to_the_cards() -> None:
    assert lineage_chart([CHAIN[2]] * (MAX_NODES + 1)) == ""
    assert lineage_chart(CHAIN[2:]) == ""


def test_lineage_chart_escapes_kinds() -> None:
    assert "<script>" not in lineage_chart([*CHAIN, node("d", "<script>")])
