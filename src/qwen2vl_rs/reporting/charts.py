"""Charts as inline SVG of any width: positions in percent, text in absolute size.

Colours come from the page's style sheet, which also covers dark mode and print.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a plot.

    Attributes:
        low, high: range of values.
        ticks: values with their labels.
        title: the label.
        scale: transformation to a linear scale, e.g. a logarithm.
    """

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    title: str
    scale: Callable[[float], float] = float

    def position(self, value: float) -> float:
        """Return the position of a value in percent of the axis, clipped to its ends."""
        low, high = self.scale(self.low), self.scale(self.high)
        return 100 * min(1.0, max(0.0, (self.scale(value) - low) / (high - low)))


@dataclass(frozen=True, slots=True)
class Line:
    """A curve, and its CSS class."""

    points: Sequence[Point]
    style: str


@dataclass(frozen=True, slots=True)
class Dots:
    """Points with their radius in pixels, and their CSS class."""

    points: Sequence[tuple[float, float, float]]
    style: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A marker in a row, possibly with an interval.

    Attributes:
        value: its value.
        style: ``before``, ``after``, ``constant``, ``question_only`` or ``shuffled_image``.
        ci: the confidence interval.
    """

    value: float
    style: str
    ci: Sequence[float] | None = None


def percent_axis(title: str, high: float = 1.0) -> Axis:
    """Return an axis from 0 to ``high`` (a fraction), labelled in percent."""
    step = 0.25 if high > 0.6 else 0.1 if high > 0.25 else 0.05
    count = math.ceil(high / step - 1e-9)
    ticks = [(k * step, f"{100 * k * step:g}") for k in range(count + 1)]
    return Axis(0.0, count * step, ticks, title)


def even_axis(low: float, high: float, title: str, *, tight: bool = False) -> Axis:
    """Return an axis with four to nine round ticks; the range must have a length.

    A ``tight`` axis ends where the range ends, not at the next tick.
    """
    rough = (high - low) / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = min((m * size for m in (1, 2, 5, 10)), key=lambda s: abs(s - rough))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [(k * step, f"{k * step:,.6g}") for k in range(first, last + 1)]
    if tight:
        return Axis(low, high, [t for t in ticks if low <= t[0] <= high], title)
    return Axis(first * step, last * step, ticks, title)


def count_axis(high: float, title: str) -> Axis:
    """Return an axis for counts from 0, on a scale of log(1 + count)."""
    powers = [10**k for k in range(9) if 10**k <= high]
    ticks = [(0.0, "0"), *((float(p), f"{p:,}") for p in powers)]
    return Axis(0.0, max(high, 1.0), ticks, title, math.log1p)


def plot(x: Axis, y: Axis, shapes: Sequence[Line | Dots], label: str) -> Markup:
    """Return a plot with gridlines; ``label`` is its text for screen readers."""
    parts = [f'<svg class="plot" role="img" aria-label="{escape(label)}">']
    for value, text in y.ticks:
        at = f"{100 - y.position(value):.2f}%"
        parts.append(f'<line class="grid" x1="0" x2="100%" y1="{at}" y2="{at}"/>')
        parts.append(
            f'<text class="tick" x="-12" y="{at}" dy="0.32em" text-anchor="end">{text}</text>'
        )
    for value, text in x.ticks:
        at = f"{x.position(value):.2f}%"
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="0" y2="100%"/>')
        parts.append(
            f'<text class="tick" x="{at}" y="100%" dy="22" text-anchor="middle">{text}</text>'
        )
    parts += [_line(s, x, y) if isinstance(s, Line) else _dots(s, x, y) for s in shapes]
    parts.append("</svg>")
    return Markup(
        '<div class="plot-box"><span class="axis-y">{}</span>{}<span class="axis-x">{}</span></div>'
    ).format(y.title, Markup("".join(parts)), x.title)


def _line(line: Line, x: Axis, y: Axis) -> str:
    places = [(x.position(a), 100 - y.position(b)) for a, b in line.points]
    path = " ".join(f"{'L' if k else 'M'}{a:.2f} {b:.2f}" for k, (a, b) in enumerate(places))
    # The inner SVG is stretched to the plot; its strokes are not.
    return (
        '<svg viewBox="0 0 100 100" preserveAspectRatio="none" width="100%" height="100%">'
        f'<path class="line {line.style}" d="{path}"/></svg>'
    )


def _dots(dots: Dots, x: Axis, y: Axis) -> str:
    return (
        f'<g class="dots {dots.style}">'
        + "".join(
            f'<circle cx="{x.position(a):.2f}%" cy="{100 - y.position(b):.2f}%" r="{r:.1f}"/>'
            for a, b, r in dots.points
        )
        + "</g>"
    )


def strip(marks: Sequence[Mark], axis: Axis, lanes: Sequence[Sequence[str]]) -> Markup:
    """Return one row of a dot-and-whisker chart.

    Args:
        marks: the markers.
        axis: the scale, shared by all rows.
        lanes: styles that share a height, from top to bottom; they determine the row's height.
    """
    height = 14 * len(lanes) + 8
    parts = [f'<svg class="strip" height="{height}" aria-hidden="true">']
    for value, _ in axis.ticks:
        at = f"{axis.position(value):.2f}%"
        zero = " zero" if value == 0 else ""
        parts.append(f'<line class="grid{zero}" x1="{at}" x2="{at}" y1="0" y2="100%"/>')
    lane = {style: 11 + 14 * k for k, styles in enumerate(lanes) for style in styles}
    parts += [_mark(mark, axis, lane[mark.style]) for mark in marks]
    return Markup("".join(parts) + "</svg>")


def _mark(mark: Mark, axis: Axis, y: int) -> str:
    at, parts = axis.position(mark.value), []
    if mark.ci:
        low, high = (f"{axis.position(end):.2f}%" for end in mark.ci)
        parts.append(f'<line class="whisker" x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>')
    return f'<g class="mark {mark.style}">{"".join(parts)}{symbol(mark.style, f"{at:.2f}%", y)}</g>'


def symbol(style: str, x: str, y: int) -> str:
    """Return the marker of a style; markers differ in shape as well as in colour."""
    if style in ("before", "after", "difference"):
        return f'<circle cx="{x}" cy="{y}" r="5"/>'
    # Paths have no percentages: it is drawn around zero, in an SVG at the position.
    paths = {
        "constant": "M0 -6V6",
        "question_only": "M0 -6L6 0L0 6L-6 0Z",
        "shuffled_image": "M-4.5 -4.5L4.5 4.5M-4.5 4.5L4.5 -4.5",
    }
    path = paths.get(style, "M-5 -5H5V5H-5Z")
    return f'<svg x="{x}" y="{y}" overflow="visible"><path d="{path}"/></svg>'


def key(style: str) -> Markup:
    """Return the marker of a style for a legend."""
    inner = symbol(style, "8", 8)
    return Markup(
        f'<svg class="key" width="16" height="16" aria-hidden="true">'
        f'<g class="mark {style}">{inner}</g></svg>'
    )
