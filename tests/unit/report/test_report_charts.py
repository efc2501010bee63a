import json
import math
import re
from html import unescape
from xml.etree import ElementTree

import pytest

from boothline.measures import Score
from boothline.report.charts import interval_chart, loss_chart, loss_lines, smooth, thin
from boothline.report.model import Contender, CurvePoint, Metric


def curve(values, key="instance_loss") -> list[CurvePoint]:
    return [CurvePoint(step=step, values={key: value}) for step, value in enumerate(values, 1)]


def drawings(html: str) -> list[ElementTree.Element]:
    found = re.findall(r"<svg.*?</svg>", html, re.S)
    return [ElementTree.fromstring(svg) for svg in found]  # noqa: S314 - drawn by ourselves


def coordinates(svg: ElementTree.Element) -> list[tuple[float, float]]:
    return [
        tuple(float(part) for part in point.split(","))
        for line in svg.iter("polyline")
        for point in line.attrib["points"].split()
    ]


def test_loss_chart_of_no_points_is_empty() -> None:
    assert loss_chart([]) == ""


def test_loss_chart_of_one_point_is_a_dot() -> None:
    svg = drawings(loss_chart(curve([0.3])))[0]

    assert len(list(svg.iter("circle"))) == 1


@pytest.mark.parametrize("values", [[0.1] * 30, [0.0, 0.0], [1e-9, 5e3, 2.0], list(range(1, 3000))])
def test_loss_chart_keeps_every_point_inside_its_frame(values) -> None:
    for svg in drawings(loss_chart(curve(values))):
        _, _, width, height = (float(part) for part in svg.attrib["viewBox"].split())
        assert all(0 <= x <= width and 0 <= y <= height for x, y in coordinates(svg))


def test_loss_lines_leave_out_values_that_are_not_finite() -> None:
    lines = loss_lines(curve([0.2, math.nan, math.inf, 0.1]))

    assert lines[0].points == ((1.0, 0.2), (4.0, 0.1))


def test_loss_chart_gives_its_values_to_the_script() -> None:
    html = loss_chart(curve([0.25, 0.5]))

    data = json.loads(unescape(re.search(r'data-chart="([^"]*)"', html)[1]))
    assert data["lines"][0]["name"] == "Instance loss"
    assert data["lines"][0]["points"] == [[1.0, 0.25], [2.0, 0.5]]


def test_thin_keeps_the_mean_and_the_limit() -> None:
    points = [(float(i), float(i % 2)) for i in range(1000)]

    thinned = thin(points, limit=100)

    assert len(thinned) == 100
    assert all(y == pytest.approx(0.5) for _, y in thinned)


def test_smooth_of_a_constant_is_the_constant() -> None:
    assert smooth([2.0] * 9, window=5) == pytest.approx([2.0] * 9)


def test_smooth_averages_neighbours() -> None:
    assert smooth([0.0, 3.0, 0.0], window=3) == pytest.approx([1.5, 1.0, 1.5])


def metric(*rows: Contender, name: str = "Subject fidelity") -> Metric:
    return Metric(key="dino", name=name, meaning="", contenders=rows)


def test_interval_chart_orders_means_from_left_to_right() -> None:
    svg = drawings(
        interval_chart(
            metric(
                Contender(key="finetuned", name="Fine-tuned", estimate=Score(mean=0.7)),
                Contender(key="real", name="Real pictures", estimate=Score(mean=0.8)),
            )
        )
    )[0]

    low, high = (float(mark.attrib["cx"]) for mark in svg.iter("circle"))
    assert low < high


def test_interval_chart_reads_out_every_interval() -> None:
    row = Contender(key="base", name="Base", estimate=Score(mean=0.5, low=0.4, high=0.6))

    assert "Base: 0.500, interval 0.400 to 0.600" in interval_chart(metric(row))


def test_interval_chart_escapes_names() -> None:
    row = Contender(key="base", name="<b>", estimate=Score(mean=0.5))

    html = interval_chart(metric(row, name='"><script>'))

    assert "<b>" not in html
    assert "<script>" not in html
