"""Results, comparisons and answers as text for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from ..questions.reply import extract_answer
from ..scoring.comparison import Comparison
from ..scoring.pairs import Pair
from ..scoring.results import Results
from ..scoring.tables import render_comparison, render_results, unreadable_note
from ..system.terminal import printable_lines


def results_table(results: Results, protocols: Sequence[str]) -> str:
    """Return a table of accuracies by some protocols."""
    scores = {name: s for name, s in results["protocols"].items() if name in protocols}
    return render_results({**results, "protocols": scores})


def training_summary(before: Results, after: Results, comparison: Comparison) -> str:
    """Return accuracy after training with baselines, and the change, by the official protocol.

    The other protocols are in ``results.json`` and ``compare.json``.
    """
    official = {"official": comparison["protocols"]["official"]}
    change = render_comparison({**comparison, "protocols": official})
    table = results_table(after, ["official"])
    was = "".join(f"\n\nBefore training: {line}" for line in unreadable_note(before["unreadable"]))
    return f"After training\n{table}{was}\n\nChange\n{change}"


def pair_table(rows: Sequence[Pair]) -> str:
    """Return questions with ground truth and both answers, one block per question."""
    lines: list[str] = []
    for row in rows:
        marks = ["right" if right else "wrong" for right in (row.before_right, row.after_right)]
        lines += [
            f"{row.id}  [{row.type}]  {row.change}",
            f"  image     {row.image}",
            f"  question  {row.question}",
            f"  truth     {row.answer}",
            f"  before    {_line(row.before)}  ({marks[0]})",
            f"  after     {_line(row.after)}  ({marks[1]})",
        ]
    return printable_lines(lines)


def _line(text: str) -> str:
    """Return an answer as one line of at most 100 characters."""
    flat = " ".join((extract_answer(text).text or text).split()) or "(nothing)"
    return flat if len(flat) <= 100 else flat[:99] + "…"
