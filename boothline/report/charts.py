"""Charts as inline SVG: the loss curve and the interval plots, coloured by the style sheet."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from boothline.measures import METRICS
from boothline.report.drawing import Scale, number, padded_range, tick_label, tick_step, ticks
from boothline.report.model import Contender, CurvePoint, Metric

MAX_POINTS = 400
LINE_NAMES = {
    "instance_loss": "Instance loss",
    "prior_loss": "Prior loss",
    "validation_loss": "Validation loss",
    "held_out_loss": "Held-out loss",
}
SCORE_NAMES = {
    "score": METRICS["score"].label,
    "subject": METRICS["dino"].label,
    "prompt": METRICS["clip_t"].label,
}
"""Scores of the validation, which is by one encoder each."""


@dataclass(frozen=True)
class Frame:
    """Size of a chart and of the margins around its plot, in pixels."""

    width: int
    height: int
    left: int = 52
    right: int = 14
    top: int = 12
    bottom: int = 40

    @property
    def plot_right(self) -> int:
        """Right edge of the plot."""
        return self.width - self.right

    @property
    def plot_bottom(self) -> int:
        """Lower edge of the plot."""
        return self.height - self.bottom


WIDE = Frame(width=860, height=300)
NARROW = Frame(width=340, height=250, left=44, right=8)


@dataclass(frozen=True)
class Line:
    """One series: a name, its class in the style sheet, and points (x, y) sorted by x."""

    name: str
    style: str
    points: tuple[tuple[float, float], ...]


def thin(
    points: Sequence[tuple[float, float]], *, limit: int = MAX_POINTS
) -> list[tuple[float, float]]:
    """Return at most `limit` points: means over runs of neighbours, which keep the trend."""
    width = math.ceil(len(points) / limit) if points else 1
    if width <= 1:
        return list(points)
    groups = [points[start : start + width] for start in range(0, len(points), width)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def smooth(values: Sequence[float], *, window: int) -> list[float]:
    """Return the centred moving average; the window shrinks at both ends."""
    half = window // 2
    return [
        sum(part) / len(part)
        for index in range(len(values))
        for part in [values[max(0, index - half) : index + half + 1]]
    ]


def loss_lines(curve: Sequence[CurvePoint], names: Mapping[str, str] = LINE_NAMES) -> list[Line]:
    """Return one line per value that was logged; values that are not finite are left out."""
    lines = []
    for key, name in names.items():
        points = [
            (float(point.step), point.values[key])
            for point in curve
            if key in point.values and math.isfinite(point.values[key])
        ]
        if points:
            lines.append(Line(name=name, style=key.replace("_", "-"), points=tuple(thin(points))))
    return lines


def loss_chart(curve: Sequence[CurvePoint]) -> Markup:
    """Return the loss curves, those of the validation among them.

    An empty string stands for a curve without a finite loss.
    """
    return _line_chart(loss_lines(curve), title="Loss")


def score_chart(validation: Sequence[CurvePoint]) -> Markup:
    """Return the scores of the validation over the steps; an empty string when there are none."""
    return _line_chart(loss_lines(validation, SCORE_NAMES), title="Validation scores")


def _line_chart(lines: Sequence[Line], *, title: str) -> Markup:
    """Return lines in a wide and a narrow drawing, with the values read on hover and by keys."""
    if not lines:
        return Markup("")
    drawings = Markup("").join(
        _draw_lines(lines, frame, style=style, title=title)
        for frame, style in ((WIDE, "wide"), (NARROW, "narrow"))
    )
    legend = Markup("").join(
        Markup('<span class="key {}"><i></i>{}</span>').format(line.style, line.name)
        for line in lines
    )
    data = {
        "lines": [
            {
                "name": line.name,
                "style": line.style,
                "points": [[x, round(y, 6)] for x, y in line.points],
            }
            for line in lines
        ]
    }
    return Markup(
        '<div class="chart" tabindex="0" role="group" data-chart="{}"'
        ' aria-label="{} over training steps. Left and right arrow keys read its values.">'
        '<div class="legend">{}<output class="readout">{}</output></div>{}</div>'
    ).format(json.dumps(data), title, legend, _last_values(lines), drawings)


def _last_values(lines: Sequence[Line]) -> str:
    """Return the losses at the end, as the reader first sees them."""
    step = max(line.points[-1][0] for line in lines)
    values = ", ".join(f"{line.name.lower()} {number(line.points[-1][1], 4)}" for line in lines)
    return f"At step {step:.0f}: {values}"


def _draw_lines(lines: Sequence[Line], frame: Frame, *, style: str, title: str) -> Markup:
    """Return the SVG of some lines over training steps."""
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    x_low, x_high = min(xs), max(xs)
    if x_low == x_high:
        x_low, x_high = x_low - 1, x_high + 1
    y_low, y_high = padded_range(ys, floor=0.0)
    if 0 < y_low < 0.3 * y_high:
        y_low = 0.0
    x_scale = Scale(x_low, x_high, frame.left, frame.plot_right)
    y_scale = Scale(y_low, y_high, frame.plot_bottom, frame.top)
    curves = Markup("").join(_curve(line, x_scale, y_scale) for line in lines)
    return Markup(
        '<svg class="plot {}" viewBox="0 0 {} {}" role="img" aria-label="{} over training steps"'
        ' data-x="{} {} {} {}" data-y="{} {} {} {}">{}{}<g class="cursor"></g></svg>'
    ).format(
        style,
        frame.width,
        frame.height,
        title,
        x_low,
        x_high,
        frame.left,
        frame.plot_right,
        y_low,
        y_high,
        frame.plot_bottom,
        frame.top,
        _axes(x_scale, y_scale, frame),
        curves,
    )


def _curve(line: Line, x_scale: Scale, y_scale: Scale) -> Markup:
    """Return a line: faint as logged, and smoothed on top when it has enough points."""
    values = [y for _, y in line.points]
    count = len(values)
    if count < 24:
        return _path(line.points, f"line {line.style}", x_scale, y_scale)
    smoothed = smooth(values, window=max(5, count // 12))
    points = [(x, y) for (x, _), y in zip(line.points, smoothed, strict=True)]
    faint = _path(line.points, f"line faint {line.style}", x_scale, y_scale)
    return faint + _path(points, f"line {line.style}", x_scale, y_scale)


def _path(
    points: Sequence[tuple[float, float]], style: str, x_scale: Scale, y_scale: Scale
) -> Markup:
    """Return one polyline; a single point becomes a dot."""
    if len(points) == 1:
        x, y = points[0]
        return Markup('<circle class="dot {}" cx="{}" cy="{}" r="3.5"/>').format(
            style, x_scale(x), y_scale(y)
        )
    joined = " ".join(f"{x_scale(x)},{y_scale(y)}" for x, y in points)
    return Markup('<polyline class="{}" points="{}"/>').format(style, joined)


def _axes(x_scale: Scale, y_scale: Scale, frame: Frame) -> Markup:
    """Return grid lines, tick labels and the name of the x axis."""
    parts = []
    y_step = tick_step(y_scale.low, y_scale.high)
    for value in ticks(y_scale.low, y_scale.high):
        y = y_scale(value)
        parts.append(
            Markup(
                '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>'
                '<text class="tick" x="{}" y="{}" text-anchor="end">{}</text>'
            ).format(
                frame.left, frame.plot_right, y, y, frame.left - 8, y + 4, tick_label(value, y_step)
            )
        )
    count = 8 if frame.width > 500 else 4
    for value in ticks(x_scale.low, x_scale.high, count=count):
        if value == round(value):
            parts.append(
                Markup('<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>').format(
                    x_scale(value), frame.plot_bottom + 18, f"{value:.0f}"
                )
            )
    parts.append(
        Markup('<text class="axis" x="{}" y="{}" text-anchor="middle">training step</text>').format(
            (frame.left + frame.plot_right) / 2, frame.height - 4
        )
    )
    return Markup("").join(parts)


ROW_HEIGHT = 34
LABEL_WIDTH = 92
LETTER_WIDTH = 8
VALUE_WIDTH = 52


def interval_chart(metric: Metric) -> Markup:
    """Return one metric's means and confidence intervals, one row a contender."""
    rows = metric.contenders
    frame = Frame(
        width=360,
        height=len(rows) * ROW_HEIGHT + 34,
        left=max(LABEL_WIDTH, LETTER_WIDTH * max(len(row.name) for row in rows)),
        right=VALUE_WIDTH,
        top=4,
        bottom=30,
    )
    low, high = padded_range([v for row in rows for v in _values(row)], padding=0.12)
    scale = Scale(low, high, frame.left, frame.plot_right)
    step = tick_step(low, high, count=4)
    grid = Markup("").join(
        Markup(
            '<line class="grid" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>'
            '<text class="tick" x="{0}" y="{3}" text-anchor="middle">{4}</text>'
        ).format(
            scale(value),
            frame.top,
            frame.plot_bottom,
            frame.plot_bottom + 18,
            tick_label(value, step),
        )
        for value in ticks(low, high, count=4)
    )
    bars = Markup("").join(
        _interval(row, scale, frame.top + (index + 0.5) * ROW_HEIGHT, frame.width)
        for index, row in enumerate(rows)
    )
    label = f"{metric.name}: " + ", ".join(
        f"{row.name} {number(row.estimate.mean)}" for row in rows
    )
    return Markup(
        '<svg class="intervals" viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}</svg>'
    ).format(frame.width, frame.height, label, grid, bars)


def _values(row: Contender) -> list[float]:
    """Return every number of a row that must be inside the plot."""
    estimate = row.estimate
    return [value for value in (estimate.mean, estimate.low, estimate.high) if value is not None]


def _interval(row: Contender, scale: Scale, y: float, width: int) -> Markup:
    """Return one row: its name, interval, mean and value."""
    estimate = row.estimate
    parts = [
        Markup('<g class="row {}"><text class="name" x="0" y="{}">{}</text>').format(
            row.key, y + 4, row.name
        )
    ]
    spoken = f"{row.name}: {number(estimate.mean)}"
    if estimate.low is not None and estimate.high is not None:
        spoken += f", interval {number(estimate.low)} to {number(estimate.high)}"
        low, high = scale(estimate.low), scale(estimate.high)
        parts.append(
            Markup('<path class="whisker" d="M{0} {2}H{1}M{0} {3}v8M{1} {3}v8"/>').format(
                low, high, y, y - 4
            )
        )
    parts.append(_marker(row.key, scale(estimate.mean), y))
    parts.append(
        Markup(
            '<text class="value" x="{}" y="{}" text-anchor="end">{}</text><title>{}</title></g>'
        ).format(width, y + 4, number(estimate.mean), spoken)
    )
    return Markup("").join(parts)


def _marker(key: str, x: float, y: float) -> Markup:
    """Return the mark of a mean: its shape distinguishes contenders without colour."""
    if key == "base":
        return Markup('<rect class="mark" x="{}" y="{}" width="10" height="10"/>').format(
            x - 5, y - 5
        )
    if key == "champion":
        return Markup('<path class="mark" d="M{} {}l7 7l-7 7l-7 -7z"/>').format(x, y - 7)
    if key == "paper":
        return Markup('<path class="mark" d="M{} {}h12M{} {}v12"/>').format(x - 6, y, x, y - 6)
    return Markup('<circle class="mark" cx="{}" cy="{}" r="6"/>').format(x, y)
