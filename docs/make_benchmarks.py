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
depend on what the weights are), here of 84 M parameters, 58 M of them the embedding of 151,936
words. The plain side is the model's own forward on padded batches of four questions, or its own
`generate` on one.
"""
SECTIONS = {
    "train": """\
## Training, forward and backward: `benchmarks/train.py`

`computed`: the vision tower runs in every step. `cached`: its output is read from the file that
`train` makes once for all epochs; the plain side has no such file. `share of peak`: FLOPs of all
matrix products that are needed, over those of a large square product on this machine. Memory is
the peak of the whole process, the weights included.
""",
    "full": """\
## Full size on a CPU

Qwen2-VL-2B with random weights in float32, LoRA r 64, checkpointing: a step fits in 24 GB.
""",
    "eval": """\
## Evaluation: `benchmarks/eval.py`

`free`: greedy answers, compared with `generate`. `closed`: probabilities of yes and no, or of four
buckets; a model that was taught raw counts chooses among hundreds of numbers, which takes some 140
tokens a question on RSVQA-LR in place of 20. `answer tokens`: decoded on both sides; 2 is a word
and its end. With this vocabulary each answer token costs more than twice the rest of the model,
on both sides alike; at 256 px, where an image has only 81 tokens, that keeps the ratio below 25.
""",
    "converge": """\
## Accuracy against time: `benchmarks/converge.py`

Drawn images of 112 px (16 visual tokens, so there is little to share), a small random base, the
same time for each, the better of two learning rates. Trees do not cost accuracy: all shapes but
the two largest, which take too few steps in this time, end within two points of the plain path or
above it. The default, 4 images × 25 questions, is the largest of these that keeps several images
in a step; the tables above show what it gains where images are larger.
""",
    "serve": """\
## Serving: `benchmarks/serve.py`

The server and its clients share the machine; each client asks again as soon as it was answered.
`known`: eight images in turn, which stay encoded; `new`: no image twice. Written answers are held
to 2 tokens, as above. `requests/pass`: how many were answered together.
""",
    "servememory": """\
Memory of a tiny model's server over 10,000 requests (`--memory`), every other one about a new
image:
""",
    "first": """\
## Until the first step: `benchmarks/first_step.py`

A tiny base, hard links to one small image, no vision cache; one run each. `imports alone`: a
process that imports what training needs. The package `datasets`, which only development needs, was
installed and is then imported too.
""",
    "threads": """\
## Beside other work: `benchmarks/threads.py`

Threads wait for each other at the end of every operation; OpenMP lets them spin. `busy`: as many
processes beside it as there are cores, which only count; half of the quiet speed is then a fair
share. `embedded`: the demo's base of 5.4 M parameters, images of 64 px; `small`: 84 M, 256 px. In
brackets the ratio to what happens without a setting. Commands set `GOMP_SPINCOUNT=10000`: on a
quiet machine it costs next to nothing, and beside other work it gains most of what can be gained;
threads that sleep at once (`PASSIVE`) cost a third of the quiet speed. Whoever sets one of these
variables, or `KMP_BLOCKTIME`, is obeyed, and the library sets none.
""",
}
TAIL = """\
## Not measured

| what | why |
| --- | --- |
| bf16 on a CPU (`--precisions bf16`) | this one has no bf16 instructions; minutes a step |
| LLaMA-Factory's own pipeline | not run with this version |
"""


def table(rows: list[dict[str, object]]) -> str:
    """Rows as a Markdown table."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([str(r[n]) for n in names] for r in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for kind, text in SECTIONS.items():
        records = sorted(RESULTS.glob(f"{kind}-*.json"))
        if records:
            parts.append(text)
        for path in records:
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
