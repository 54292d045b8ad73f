"""Format results and comparisons as text tables for the terminal; percent with one decimal."""

from __future__ import annotations

from collections.abc import Sequence

from ..questions.class_sets import depends_on_dataset
from ..questions.question_type import RULES
from ..questions.registry import rules_of
from ..system.terminal import printable, printable_lines
from ..types import UNKNOWN
from . import baselines
from .comparison import Change, Comparison, Paired
from .results import Results, Unreadable

_CAUSES = {
    "cut_off": "cut off",
    "empty": "empty",
    "no_answer": "reasoning without an answer",
    "unclear": "no clear answer",
}
_NONE = "–"


def render_results(results: Results) -> str:
    """Format one table per protocol: accuracies by type with intervals, beside the baselines."""
    blocks = []
    for name, score in results["protocols"].items():
        title = (
            f"{name} ({_classes(results['dataset'])}): {score['n']:,} questions, 95 % intervals "
            f"clustered by {results['clustered_by']} ({score['clusters']:,})"
        )
        controls = {k: v[name] for k, v in results["controls"].items() if name in v}
        labels = {one.name: one.label for one in baselines.BASELINES}
        head = ["", "n", "accuracy", "95 %", *(labels.get(name, name) for name in controls)]
        rows = [head]
        for kind, one in score["types"].items():
            blind = [
                _percent(c["types"][kind]["accuracy"]) if kind in c["types"] else _NONE
                for c in controls.values()
            ]
            rows.append(
                [kind, f"{one['n']:,}", _percent(one["accuracy"]), _range(one["ci"]), *blind]
            )
        for label, value, ci, blind in (
            ("AA", score["AA"], score["AA_ci"], [_percent(c["AA"]) for c in controls.values()]),
            ("OA", score["OA"], score["OA_ci"], [_percent(c["OA"]) for c in controls.values()]),
        ):
            rows.append([label, f"{score['n']:,}", _percent(value), _range(ci), *blind])
        lines = [title, "", *aligned(rows)]
        gains = [
            f"{what}: {_signed(gain['OA'])} points ({_signed_range(gain['ci'])}) over {whom}"
            + (f", on {gain['n']:,} of these questions" if gain["n"] < score["n"] else "")
            for what, gain, whom in (
                ("visual gain", results["visual_gain"].get(name), "question only"),
                ("shuffled cost", results["shuffled_cost"].get(name), "a wrong image"),
            )
            if gain
        ]
        gains += [
            f"{kind}: F1 {_percent(one['f1']['value'])} ({_range(one['f1']['ci'])}) of the listed "
            "items, in any order"
            for kind, one in score["types"].items()
            if "f1" in one
        ]
        lines += ["", *gains] if gains else []
        blocks.append(printable_lines(lines))
    return "\n\n".join(blocks + _notes(results))


def _classes(dataset: str) -> str:
    return "unknown data set" if dataset == UNKNOWN else dataset


def render_comparison(comparison: Comparison) -> str:
    """Format one table per protocol: before, after, and the difference with its interval."""
    blocks = []
    for name, found in comparison["protocols"].items():
        title = (
            f"{name} ({_classes(comparison['dataset'])}): {found['n']:,} questions in both runs, "
            f"95 % intervals clustered by {comparison['clustered_by']} ({comparison['clusters']:,})"
        )
        rows = [["", "n", "before", "after", "difference", "95 %", "fixed", "broken", "p"]]
        rows += [[kind, *_change(one), *_pairs(one)] for kind, one in found["types"].items()]
        rows.append(["AA", *_change(found["AA"]), "", "", ""])
        rows.append(["OA", *_change(found["OA"]), *_pairs(found["OA"])])
        blocks.append(printable_lines([title, "", *aligned(rows)]))
    blocks.append("p: exact McNemar test, which assumes independent questions.")
    missing = comparison["unmatched"]
    if missing["before"] or missing["after"]:
        blocks.append(
            f"In one run only: {missing['before']:,} before, {missing['after']:,} after, "
            f"e.g. {printable('; '.join(missing['examples']))}"
        )
    return "\n\n".join(blocks)


def _notes(results: Results) -> list[str]:
    notes = []
    if (counts := results.get("counts")) and counts["mae"] is not None:
        notes += [
            f"counting: {counts['numbers']:,} of {counts['n']:,} answers are numbers, "
            f"{_percent(counts['exact'])} % exact;",
            f"  absolute error {counts['mae']:,.1f} in the mean, "
            f"{counts['median_error']:,.1f} in the median",
        ]
    types = {kind for score in results["protocols"].values() for kind in score["types"]}
    notes += [RULES[rule] for rule in rules_of(types)]
    notes += dataset_note(results) + unreadable_note(results["unreadable"])
    if n := results["unreadable_truth"]:
        notes.append(f"ground truths without a normal form, never correct: {n:,}")
    if dropped := results.get("train", {}).get("dropped"):
        notes.append(f"training questions dropped, their image is in the test set: {dropped:,}")
    notes += [f"left out: {name} ({why})" for name, why in results["left_out"].items()]
    return [printable_lines(notes)] if notes else []


def dataset_note(results: Results) -> list[str]:
    """Return a note if the data set is unknown or inferred, and its classes matter."""
    types = {kind for score in results["protocols"].values() for kind in score["types"]}
    if not depends_on_dataset(types):
        return []
    if results["dataset_from"] == "inferred":
        return [
            "the run did not record its data set; inferred from the question types: "
            f"{results['dataset']}"
        ]
    if results["dataset"] == UNKNOWN:
        return [
            "the data set is unknown: counts and areas are compared exactly;",
            "  name it: --set data.dataset=LR (train, eval), --dataset LR (score, report)",
        ]
    return []


def unreadable_note(unreadable: Unreadable) -> list[str]:
    """Return ``unreadable: 31, of these cut off: 12``; empty if there are none."""
    if not unreadable["n"]:
        return []
    causes = (f"{_CAUSES[cause]}: {n:,}" for cause, n in unreadable["causes"].items())
    return [f"unreadable: {unreadable['n']:,}, of these {', '.join(causes)}"]


def _change(one: Change | Paired) -> list[str]:
    return [
        f"{one['n']:,}",
        _percent(one["before"]),
        _percent(one["after"]),
        _signed(one["difference"]),
        _signed_range(one["ci"]),
    ]


def _pairs(one: Paired) -> list[str]:
    p = one["p"]
    return [f"{one['wins']:,}", f"{one['losses']:,}", "<0.001" if p < 0.001 else f"{p:.3f}"]


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _signed(value: float) -> str:
    # Adding zero turns the -0.0 of rounding into 0.0.
    return f"{round(100 * value, 1) + 0.0:+.1f}"


def _range(ci: Sequence[float]) -> str:
    return f"{_percent(ci[0])} – {_percent(ci[1])}"


def _signed_range(ci: Sequence[float]) -> str:
    return f"{_signed(ci[0])} to {_signed(ci[1])}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align columns, two spaces apart: the first to the left, the others to the right."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines
