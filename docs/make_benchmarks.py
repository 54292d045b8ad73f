"""Write docs/benchmarks.md from the JSON files that the benchmarks left in docs/results/."""

from __future__ import annotations

import json
import sys
from pathlib import Path

PAGE = Path(__file__).with_name("benchmarks.md")
RESULTS = Path(__file__).with_name("results")
HEAD = """\
# Measured

<!-- Written by `python docs/make_benchmarks.py` from docs/results/*.json. -->

Both sides of every ratio ran side by side in one process, on the same weights, images, questions
and adapter. The base is a Qwen2-VL with random weights and the real vocabulary (speed does not
depend on what the weights are). The plain side is the model's own forward on padded batches of
four questions, or its own `generate` on one.
"""
TITLES = {
    "train": "## Training, forward and backward: `benchmarks/train.py`",
    "eval": "## Evaluation: `benchmarks/eval.py`",
}
TAIL = """\
## Not measured

The full-size 2B model on a GPU, and LLaMA-Factory's own pipeline, have not been measured with
this version.
"""


def table(rows: list[dict[str, object]]) -> str:
    """Rows as a Markdown table."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([str(r[n]) for n in names] for r in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for kind, title in TITLES.items():
        parts.append(title + "\n")
        for path in sorted(RESULTS.glob(f"{kind}-*.json")):
            record = json.loads(path.read_text(encoding="utf-8"))
            facts = ", ".join(f"{k} {v}" if k != "device" else v
                              for k, v in record["machine"].items())  # fmt: skip
            parts += [f"{facts}:\n", table(record["rows"])]
    return "\n".join([*parts, TAIL])


def main() -> None:
    """Write the page, or check it."""
    if "--check" in sys.argv:
        if PAGE.read_text(encoding="utf-8") != page():
            sys.exit("docs/benchmarks.md is not up to date: make docs")
    else:
        PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
