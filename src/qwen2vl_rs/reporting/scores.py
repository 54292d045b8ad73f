"""Report sections with accuracies by type and by protocol, and confusion matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from ..questions.class_sets import depends_on_dataset
from ..questions.protocols import PROTOCOLS
from ..questions.registry import rules_of
from ..scoring import baselines
from ..scoring.comparison import Change, Paired
from ..scoring.metrics import NO_ANSWER, OTHERS, Confusion, Score
from ..scoring.results import Results
from ..types import UNKNOWN
from .charts import Axis, Mark, key, percent_axis, strip
from .evidence import ReportInputs
from .i18n import Words
from .page_model import Cell, Figure, Section, Table
from .verdict import OFFICIAL

_COMPARED = ("before", "after", "difference", "fixed", "broken", "p")
Interval = tuple[float, Sequence[float]]


def by_type(found: ReportInputs, w: Words) -> Section:
    """Return the section on accuracies by type, with intervals and baselines."""
    results = found.after.results
    after = results["protocols"][OFFICIAL]
    before = found.before.results["protocols"][OFFICIAL] if found.before else None
    known = {one.name: results["controls"].get(one.name, {}) for one in baselines.BASELINES}
    controls = {name: scores[OFFICIAL] for name, scores in known.items() if OFFICIAL in scores}
    lead = "types.lead_controls" if controls else "types.lead"
    return Section(
        id="types",
        title=w("types.title"),
        lead=w(lead, cluster=w.known("cluster", results["clustered_by"])),
        figures=[_chart(before, after, controls, w)],
        tables=[_figures(found, before, after, controls, w)],
        notes=_notes(found, w),
    )


def _notes(found: ReportInputs, w: Words) -> list[str]:
    notes = [w("types.pairs")] if found.comparison else []
    notes += lists(found, w)
    types = found.after.results["protocols"][OFFICIAL]["types"]
    notes += [w(f"rule.{rule}") for rule in rules_of(types)]
    notes += [f"{term}{w('form.colon')}{text}" for term, text in partial(found, w)]
    notes += dataset(found.after.results, w)
    for name, side in (("before", found.before), ("after", found.after)):
        if side and side.results["unreadable"]["n"]:
            who = w(f"head.{name}") + w("form.colon") if found.before else ""
            notes.append(who + unreadable(side.results, w))
    return notes


def lists(found: ReportInputs, w: Words) -> list[str]:
    """Return the mean F1 of types with list answers, as their accuracy needs complete lists."""
    notes = []
    for name, side in (("before", found.before), ("after", found.after)):
        for kind, one in side.results["protocols"][OFFICIAL]["types"].items() if side else ():
            if f1 := one.get("f1"):
                who = w(f"head.{name}") + w("form.colon") if found.before else ""
                value, ci = f"{100 * f1['value']:.1f}", w.range(f1["ci"])
                notes.append(who + w("types.f1", type=w.known("type", kind), value=value, ci=ci))
    return notes


def unreadable(results: Results, w: Words) -> str:
    """Return the number of unreadable answers, with the causes."""
    return w("unreadable.text", n=results["unreadable"]["n"], causes=causes(results, w))


def causes(results: Results, w: Words) -> str:
    """Return the causes of unreadable answers, with their numbers."""
    found = results["unreadable"]["causes"].items()
    return w("form.list").join(w(f"unreadable.{cause}", n=n) for cause, n in found)


def dataset(results: Results, w: Words) -> list[str]:
    """Return a note if the dataset is unknown or inferred, and affects the scores."""
    if not depends_on_dataset(results["protocols"][OFFICIAL]["types"]):
        return []
    if results["dataset_from"] == "inferred":
        return [w("dataset.inferred", dataset=results["dataset"])]
    return [w("dataset.exact")] if results["dataset"] == UNKNOWN else []


def partial(found: ReportInputs, w: Words) -> list[tuple[str, str]]:
    """Return facts on questions that results leave out: those in one file only, or not shuffled."""
    facts = []
    if found.comparison:
        lost, n = found.comparison["unmatched"], found.comparison["n"]
        if lost["before"] or lost["after"]:
            text = w("ran.unmatched_text", before=lost["before"], after=lost["after"], n=n)
            facts.append((w("ran.unmatched"), text))
    results = found.after.results
    cost, n = results["shuffled_cost"].get(OFFICIAL), results["protocols"][OFFICIAL]["n"]
    if cost and cost["n"] < n:
        facts.append((w("ran.misled"), w("form.part", n=cost["n"], all=n)))
    return facts


def _interval(score: Score | None, row: str) -> Interval | None:
    """Return accuracy and interval of OA, AA or a type; None without such questions."""
    if score is None:
        return None
    if row == "OA":
        return score["OA"], score["OA_ci"]
    if row == "AA":
        return score["AA"], score["AA_ci"]
    one = score["types"].get(row)
    return (one["accuracy"], one["ci"]) if one else None


def _chart(before: Score | None, after: Score, controls: Mapping[str, Score], w: Words) -> Figure:
    axis = percent_axis("")
    shown = {**({"before": before} if before else {}), "after": after, **controls}
    lanes = [lane for lane in (("before",), ("after",), tuple(controls)) if {*lane} & {*shown}]
    parts = [Markup('<div class="strips" role="img" aria-label="{}">').format(w("types.chart"))]
    for row in ("OA", "AA", *after["types"]):
        marks = []
        for style, score in shown.items():
            if one := _interval(score, row):
                # Intervals of the baselines would hide the model's own.
                marks.append(Mark(one[0], style, None if style in controls else one[1]))
        name = w.known("type", row)
        parts.append(
            Markup('<div class="strip-name{}" title="{}">{}</div>{}').format(
                " strong" if row in ("OA", "AA") else "", name, name, strip(marks, axis, lanes)
            )
        )
    ticks = "".join(
        f'<span style="left:{axis.position(value):g}%">{escape(text)}</span>'
        for value, text in axis.ticks
    )
    parts.append(
        Markup(f'<div></div><div class="strip-axis" aria-hidden="true">{ticks}</div></div>')
    )
    names = {"before": w("head.before"), "after": w("head.after")}
    legend = [(key(s), names.get(s) or w.known("control", s)) for s in shown]
    return Figure(Markup("").join(parts), w("types.chart"), legend)


def _figures(
    found: ReportInputs, before: Score | None, after: Score, controls: Mapping[str, Score], w: Words
) -> Table:
    compared = found.comparison["protocols"][OFFICIAL] if found.comparison else None
    paired: dict[str, Paired] = {**compared["types"], "OA": compared["OA"]} if compared else {}
    changes: dict[str, Change] = {**paired, "AA": compared["AA"]} if compared else {}
    reach = 1.1 * max((abs(x) for c in changes.values() for x in c["ci"]), default=1.0)
    axis = Axis(-reach, reach, [(0.0, "0")], "")
    columns = ["type", "n", *(_COMPARED if compared else ["accuracy"])]
    head = [*(w(f"head.{name}") for name in columns), *(w.known("control", c) for c in controls)]
    rows = []
    for name in (*after["types"], "AA", "OA"):
        n = _number(after, name)
        cells = [Cell(w.known("type", name)), Cell(f"{n:,}")]
        change = changes.get(name)
        # files with different types for the same questions do not share this row
        same = change is not None and change["n"] == n
        if compared:
            cells.append(accuracy(_interval(before if same else None, name), w))
        cells.append(accuracy(_interval(after, name), w))
        if compared:
            cells += _changed(change if same else None, paired.get(name), axis, w)
        cells += [accuracy(_interval(control, name), w) for control in controls.values()]
        rows.append(cells)
    return Table(head, rows, w("types.table"))


def _signed(one: Change | None, w: Words) -> Cell:
    return Cell(w.signed(one["difference"]), w.signed_range(one["ci"])) if one else Cell("–")


def _number(score: Score, row: str) -> int:
    if row in ("OA", "AA"):
        return score["n"]
    return score["types"][row]["n"] if row in score["types"] else 0


def accuracy(one: Interval | None, w: Words) -> Cell:
    """Return an accuracy in percent with its interval, or a dash."""
    return Cell(f"{100 * one[0]:.1f}", w.range(one[1])) if one else Cell("–")


def difference(value: float, ci: Sequence[float], axis: Axis, w: Words) -> Cell:
    """Return a difference in points with its interval, as numbers and as a chart."""
    drawn = strip([Mark(value, "difference", ci)], axis, [["difference"]])
    return Cell(w.signed(value), w.signed_range(ci), drawn)


def _changed(change: Change | None, pairs: Paired | None, axis: Axis, w: Words) -> list[Cell]:
    """Return difference, fixed, broken and p; AA has a difference only."""
    if change is None:
        return [Cell("–")] * 4
    cells = [difference(change["difference"], change["ci"], axis, w)]
    if pairs is None:
        return [*cells, *[Cell("")] * 3]
    return [*cells, Cell(f"{pairs['wins']:,}"), Cell(f"{pairs['losses']:,}"), Cell(w.p(pairs["p"]))]


def by_protocol(found: ReportInputs, w: Words) -> Section:
    """Return the section on the results under every applicable protocol."""
    results = found.after.results
    gains = {"gain": results["visual_gain"], "cost": results["shuffled_cost"]}
    shown = [name for name, one in gains.items() if one]
    columns = ["oa_before", "oa", "difference"] if found.comparison else ["oa"]
    head = [w(f"head.{name}") for name in ("protocol", "n", *columns, "aa", *shown)]
    was = found.before.results["protocols"] if found.before else {}
    rows = []
    for name, score in results["protocols"].items():
        cells = [Cell(name), Cell(f"{score['n']:,}")]
        change = found.comparison["protocols"].get(name) if found.comparison else None
        if found.comparison:
            cells.append(accuracy(_interval(was.get(name) if change else None, "OA"), w))
        cells.append(accuracy(_interval(score, "OA"), w))
        if found.comparison:
            cells.append(_signed(change and change["OA"], w))
        cells.append(accuracy(_interval(score, "AA"), w))
        for kind in shown:
            one = gains[kind].get(name)
            cells.append(Cell(w.signed(one["OA"]), w.signed_range(one["ci"])) if one else Cell("–"))
        rows.append(cells)
    return Section(
        id="protocols",
        title=w("protocols.title"),
        lead=w("protocols.lead"),
        tables=[Table(head, rows)],
        notes=[w(f"protocols.{name}") for name in PROTOCOLS if name in results["protocols"]],
    )


def answers(found: ReportInputs, w: Words) -> Section:
    """Return the section of confusion matrices."""
    types = found.after.results["protocols"][OFFICIAL]["types"]
    tables = [_matrix(w.known("type", t), one["confusion"], w) for t, one in types.items()]
    return Section(id="answers", title=w("answers.title"), lead=w("answers.lead"), tables=tables)


def _matrix(title: str, confusion: Confusion, w: Words) -> Table:
    columns = list(confusion)
    columns += [c for row in confusion.values() for c in row if c not in columns]
    columns = [c for c in dict.fromkeys(columns) if c not in (NO_ANSWER, OTHERS)]
    said = {c for row in confusion.values() for c in row}
    columns += [c for c in (OTHERS, NO_ANSWER) if c in said]
    rows = []
    for truth, row in confusion.items():
        total = sum(row.values())
        cells = [Cell(_label(truth, w), f"{total:,}")]
        for column in columns:
            n = row.get(column, 0)
            cells.append(Cell(f"{n:,}" if n else "·", heat=n / total))
        rows.append(cells)
    return Table([w("head.truth"), *(_label(c, w) for c in columns)], rows, title, grid=True)


_SHORT = {
    f"between {low}{unit} and {high}{unit}": f"{low + 1}–{high}{unit}".replace("m2", " m²")
    for low, high in ((0, 10), (10, 100), (100, 1000))
    for unit in ("", "m2")
} | {"more than 1000": ">1000", "more than 1000m2": ">1000 m²", "0m2": "0 m²"}


def short(label: str) -> str:
    """Abbreviate a class: ``between 10 and 100`` → ``11–100``."""
    return _SHORT.get(label, label)


def _label(label: str, w: Words) -> str:
    if label == NO_ANSWER:
        return w("answers.none")
    return w("answers.others") if label == OTHERS else short(label)
