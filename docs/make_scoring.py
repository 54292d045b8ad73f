"""Write the computed tables of docs/scoring.md; ``--check`` only compares.

The published averages on RSVQA-LR are recomputed from the accuracies per question type in both
ways. The accuracies are quoted from the table of Kuckreja et al., GeoChat, CVPR 2024; the numbers
of questions are those of the official test file.
"""

from __future__ import annotations

import sys
from pathlib import Path

from qwen2vl_rs.known_datasets import all_datasets

PAGE = Path(__file__).with_name("scoring.md")
MARKS = "<!-- {}, by docs/make_scoring.py -->\n", "<!-- end of {} -->\n"
QUESTIONS = {"presence": 2955, "comp": 4002, "rural_urban": 100}
# model: presence, comparison, rural/urban, printed average (percent)
PUBLISHED = {
    "LLaVA-1.5": (55.46, 68.20, 59.00, 62.77),
    "Qwen-VL-Chat": (38.57, 67.59, 61.00, 55.35),
    "MiniGPT-v2": (55.16, 55.22, 39.00, 54.96),
    "RSVQA": (87.47, 81.50, 90.00, 86.32),
    "EasyToHard": (90.66, 87.49, 91.67, 89.94),
    "Bi-Modal": (91.06, 91.16, 92.66, 91.63),
    "SHRNet": (91.03, 90.48, 94.00, 91.84),
    "RSGPT": (91.17, 91.70, 94.00, 92.29),
    "GeoChat": (91.09, 90.33, 94.00, 90.70),
}


def averages(types: tuple[float, ...]) -> tuple[float, float]:
    """Return the question-weighted (OA) and the macro (AA) average of three accuracies."""
    weights = list(QUESTIONS.values())
    weighted = sum(a * n for a, n in zip(types, weights, strict=True)) / sum(weights)
    return weighted, sum(types) / len(types)


def datasets() -> str:
    """Return the table of the known data sets."""
    rows = [
        "| name | data set | licence | splits | question types | in buckets |",
        "|" + "---|" * 6,
    ]
    for one in all_datasets().values():
        buckets = [kind for kind in one.types if kind in one.bucketed]
        lists = [
            ", ".join(f"`{name}`" for name in names) for names in (one.splits, one.types, buckets)
        ]
        rows.append(f"| `{one.name}` | {one.title} | {one.licence} | {' | '.join(lists)} |")
    return "\n".join(rows) + "\n"


def published() -> str:
    """Return the table of published accuracies."""
    rows = [
        "| model | presence | comparison | rural/urban | printed | question-weighted | macro "
        "| printed is |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for model, (*types, printed) in PUBLISHED.items():
        weighted, macro = averages(tuple(types))
        kind = "question-weighted" if abs(weighted - printed) < abs(macro - printed) else "macro"
        cells = [model, *(f"{x:.2f}" for x in (*types, printed, weighted, macro)), kind]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def main() -> None:
    """Replace the tables in the page, or with ``--check`` compare them."""
    text = new = PAGE.read_text(encoding="utf-8")
    for table in (datasets, published):
        begin, end = (mark.format(table.__name__) for mark in MARKS)
        head, rest = new.split(begin)
        new = head + begin + table() + end + rest.split(end)[1]
    if "--check" in sys.argv:
        if new != text:
            sys.exit("docs/scoring.md is not up to date: make docs")
    else:
        PAGE.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
