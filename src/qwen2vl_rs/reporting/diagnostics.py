"""Report sections on training loss, counts and calibration."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ..questions.grammar import type_of
from ..questions.normal_forms import normalise
from ..questions.registry import type_named
from ..scoring.metrics import Calibration, Counts
from .charts import Dots, Line, count_axis, even_axis, key, percent_axis, plot
from .evidence import ReportInputs, Side
from .i18n import Words
from .page_model import Cell, Figure, Section, Table
from .scores import short
from .verdict import OFFICIAL

_POINTS = 500  # maximum of a curve; more are not visible
_CELLS_PER_DECADE = 24  # counts that are closer than this share a dot


def loss(found: ReportInputs, w: Words) -> Section | None:
    """Return the section on the loss of every step, if recorded."""
    steps = [m for m in found.metrics if _finite(m.get("loss")) and _finite(m.get("step"))]
    if len(steps) < 2:
        return None
    window = max(2, len(steps) // 20)
    values = [float(m["loss"]) for m in steps]
    means = [
        sum(part) / len(part)
        for part in (values[max(0, k + 1 - window) : k + 1] for k in range(len(values)))
    ]
    number = [float(m["step"]) for m in steps]
    every = math.ceil(len(steps) / _POINTS)
    kept = sorted({*range(0, len(steps), every), len(steps) - 1})
    x = even_axis(0.0, number[-1], w("loss.axis_x"), tight=True)
    y = even_axis(min(0.0, *values), max(*values, 0.1), w("loss.axis_y"))
    curves = {"faint": values, "after": means}
    lines = [Line([(number[k], one[k]) for k in kept], style) for style, one in curves.items()]
    chart = plot(x, y, lines, w("loss.title"))
    first, last = means[min(window, len(means)) - 1], means[-1]
    told = w("loss.first", first=f"{first:.3f}", last=f"{last:.3f}", steps=len(steps))
    lead = w("loss.lead", window=window)
    return Section("loss", w("loss.title"), lead, figures=[Figure(chart)], notes=[told])


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def counting(found: ReportInputs, w: Words) -> Section | None:
    """Return the section on predicted and true counts, if there are counting questions."""
    counted = found.after.results.get("counts")
    if counted is None:
        return None
    n, numbers = counted["n"], counted["numbers"]
    lead, figures = w("counts.lead_none", n=n), []
    if counted["mae"] is not None:
        lead = w("counts.lead", mae=f"{counted['mae']:,.1f}", n=n, numbers=numbers)
        figures = [Figure(_scatter(found.after, w))]
    tables = [_magnitudes(counted, w)]
    return Section("counts", w("counts.title"), lead, figures=figures, tables=tables)


def _scatter(side: Side, w: Words) -> Any:
    cells: Counter[tuple[float, float]] = Counter()
    most = 1
    for p in side.predictions:
        if type_named(type := type_of(p)).exact_numbers:
            gold, said = normalise(p.answer, type), normalise(p.prediction, type)
            if gold and said and gold.isdecimal() and said.isdecimal():
                cells[_cell(int(gold)), _cell(int(said))] += 1
                most = max(most, int(gold), int(said))
    x, y = count_axis(most, w("counts.axis_x")), count_axis(most, w("counts.axis_y"))
    largest = math.sqrt(max(cells.values()))
    dots = [(a, b, 2 + 9 * math.sqrt(n) / largest) for (a, b), n in sorted(cells.items())]
    right = Line([(0.0, 0.0), (most, most)], "diagonal")
    return plot(x, y, [right, Dots(dots, "after")], w("counts.title"))


def _cell(count: int) -> float:
    """Return a count, or the centre of its cell on the logarithmic scale."""
    place = math.log10(1 + count) * _CELLS_PER_DECADE
    return (
        float(count) if count < _CELLS_PER_DECADE else 10 ** (round(place) / _CELLS_PER_DECADE) - 1
    )


def _magnitudes(counted: Counts, w: Words) -> Table:
    head = [w(f"head.{k}") for k in ("magnitude", "n", "numbers", "mae", "exact", "bucket")]
    parts = {**{short(k): v for k, v in counted["by_magnitude"].items()}, "Σ": counted}
    rows = [
        [
            Cell(name),
            Cell(f"{one['n']:,}"),
            Cell(f"{one['numbers']:,}"),
            Cell("–" if one["mae"] is None else f"{one['mae']:,.1f}"),
            Cell(f"{100 * one['exact']:.1f}", _range(one, "exact_ci", w)),
            Cell(f"{100 * one['bucket']:.1f}", _range(one, "bucket_ci", w)),
        ]
        for name, one in parts.items()
    ]
    return Table(head, rows, w("counts.table"))


def _range(one: Mapping[str, Any], key: str, w: Words) -> str:
    """Return an interval, if it was computed."""
    return w.range(one[key]) if key in one else ""


def confidence(found: ReportInputs, w: Words) -> Section | None:
    """Return the section on calibration and risk–coverage, if there are confidences."""
    sides = {
        style: side.results["protocols"][OFFICIAL]["calibration"]
        for style, side in (("before", found.before), ("after", found.after))
        if side and "calibration" in side.results["protocols"][OFFICIAL]
    }
    if not sides:
        return None
    legend = [(key(style), w(f"head.{style}")) for style in sides]
    notes = []
    for style, one in sides.items():
        errors = {name: f"{one[name]:.3f}" for name in ("ece", "aurc")}
        notes.append(w("confidence.ece", side=w(f"head.{style}"), n=one["n"], **errors))
    return Section(
        id="confidence",
        title=w("confidence.title"),
        lead=w("confidence.lead"),
        figures=[_curve(sides, legend, w), _risk(sides, legend, w)],
        notes=notes,
    )


def _curve(sides: dict[str, Calibration], legend: Any, w: Words) -> Figure:
    x = percent_axis(w("confidence.axis_confidence"))
    y = percent_axis(w("confidence.axis_accuracy"))
    shapes: list[Line | Dots] = [Line([(0, 0), (1, 1)], "diagonal")]
    for style, one in sides.items():
        most = max(b["n"] for b in one["curve"])
        places = [(b["confidence"], b["accuracy"]) for b in one["curve"]]
        sizes = [3 + 6 * math.sqrt(b["n"] / most) for b in one["curve"]]
        shapes.append(Line(places, style))
        shapes.append(Dots([(*p, r) for p, r in zip(places, sizes, strict=True)], style))
    title = w("confidence.curve")
    return Figure(plot(x, y, shapes, title), title, legend)


def _risk(sides: dict[str, Calibration], legend: Any, w: Words) -> Figure:
    x = percent_axis(w("confidence.axis_coverage"))
    top = max(risk for one in sides.values() for _, risk in one["risk_coverage"])
    y = percent_axis(w("confidence.axis_risk"), max(top, 0.05))
    shapes = [Line([(a, b) for a, b in one["risk_coverage"]], s) for s, one in sides.items()]
    title = w("confidence.risk")
    return Figure(plot(x, y, shapes, title), title, legend)
