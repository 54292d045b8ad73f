"""Report section on the validations during training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .charts import Dots, Line, even_axis, key, percent_axis, plot
from .evidence import ReportInputs
from .i18n import Words
from .page_model import Cell, Figure, Section, Table

_ROWS = 20  # maximum of the table, beside the best


def validation(found: ReportInputs, w: Words) -> Section | None:
    """Return the section on the validations, if there were any."""
    lines = [line for line in found.metrics if "eval_OA" in line]
    if found.validation is None or not lines:
        return None
    best, record = found.validation.best_step, found.validation
    stops = record.stops(found.config.training.early_stopping_patience) if found.config else False
    named = {"step": best, "count": record.count, "metric": record.metric}
    notes = [w("validation.stopped", n=record.since_best)] if stops else []
    return Section(
        "validation",
        w("validation.title"),
        w("validation.lead", n=lines[-1]["eval_n"], **named),
        figures=[_accuracy(lines, best, w), _losses(found.metrics, lines, w)],
        tables=[_table(found.metrics, lines, best, w)],
        notes=notes,
    )


def _accuracy(lines: Sequence[Mapping[str, Any]], best: int, w: Words) -> Figure:
    """Return the chart of OA with its interval."""
    x = even_axis(0.0, float(lines[-1]["step"]), w("loss.axis_x"), tight=True)
    y = percent_axis(w("validation.axis_oa"), max(line["eval_OA_high"] for line in lines))
    ends = [
        Line([(line["step"], line[name]) for line in lines], "faint")
        for name in ("eval_OA_low", "eval_OA_high")
    ]
    places = [(line["step"], line["eval_OA"]) for line in lines]
    dots = Dots([(*place, 6.0 if place[0] == best else 3.0) for place in places], "after")
    title = w("validation.accuracy")
    return Figure(plot(x, y, [*ends, Line(places, "after"), dots], title), title)


def _losses(
    metrics: Sequence[Mapping[str, Any]], lines: Sequence[Mapping[str, Any]], w: Words
) -> Figure:
    """Return the chart of held-out and training loss at each validation."""
    held_out = [(line["step"], line["eval_loss"]) for line in lines]
    trained = [(line["step"], _mean_loss(metrics, lines, k)) for k, line in enumerate(lines)]
    curves = {"after": held_out, "before": trained}
    x = even_axis(0.0, float(lines[-1]["step"]), w("loss.axis_x"), tight=True)
    top = 2 * max(value for _, value in held_out)  # the first steps of training are far above
    y = even_axis(0.0, max(0.1, top), w("loss.axis_y"))
    shapes: list[Line | Dots] = []
    for style, points in curves.items():
        shapes += [Line(points, style), Dots([(*p, 3.0) for p in points], style)]
    title = w("validation.loss")
    legend = [(key("after"), w("validation.held_out")), (key("before"), w("validation.trained"))]
    return Figure(plot(x, y, shapes, title), title, legend)


def _mean_loss(
    metrics: Sequence[Mapping[str, Any]], lines: Sequence[Mapping[str, Any]], k: int
) -> float:
    """Return the mean training loss of the steps since the validation before."""
    first = lines[k - 1]["step"] if k else 0
    own = [m["loss"] for m in metrics if first < m["step"] <= lines[k]["step"]]
    return float(sum(own) / len(own))


def _table(
    metrics: Sequence[Mapping[str, Any]], lines: Sequence[Mapping[str, Any]], best: int, w: Words
) -> Table:
    head = [w("loss.axis_x"), w("head.oa"), w("head.aa")]
    head += [w("validation.held_out"), w("validation.trained")]
    every = -(-len(lines) // _ROWS)
    rows = []
    for k, line in enumerate(lines):
        if line["step"] != best and (len(lines) - 1 - k) % every:
            continue
        step = f"{line['step']:,}"
        accuracies = [
            Cell(
                f"{100 * line[f'eval_{name}']:.1f}",
                w.range([line[f"eval_{name}_low"], line[f"eval_{name}_high"]]),
            )
            for name in ("OA", "AA")
        ]
        losses = [line["eval_loss"], _mean_loss(metrics, lines, k)]
        named = Cell(step, w("validation.best") if line["step"] == best else "")
        rows.append([named, *accuracies, *(Cell(f"{value:.3f}") for value in losses)])
    return Table(head, rows)
