"""Write docs/benchmarks.md from the JSON files of the benchmarks in docs/results/."""

from __future__ import annotations

import json
import sys
from pathlib import Path

PAGE = Path(__file__).with_name("benchmarks.md")
RESULTS = Path(__file__).with_name("results")
HEAD = """\
# Benchmarks

<!-- Written by `python docs/make_benchmarks.py` from docs/results/*.json. -->

Both sides of every ratio ran in one process, with the same weights, images, questions and adapter.
The base model is a Qwen2-VL with random weights (speed does not depend on the weights) and the real
vocabulary: 84 M parameters, 58 M of them in the embedding of 151,936 tokens. The baseline (`plain`)
is the model's own forward pass on padded batches of four questions, or its own `generate` on one.
"""
SECTIONS = {
    "train": """\
## Training, forward and backward: `benchmarks/train.py`

`computed`: the vision tower runs in every step. `cached`: its output is read from the file that
`train` writes once for all epochs; the baseline has no such file. `share of peak`: FLOP/s of all
necessary matrix products, divided by those of a large square product on this machine. Memory is the
peak of the whole process, including the weights.
""",
    "full": """\
## Full size on a CPU

Qwen2-VL-2B with random weights in float32, LoRA r 64, gradient checkpointing: a step fits in 24 GB.
""",
    "eval": """\
## Evaluation: `benchmarks/eval.py`

`free`: greedy decoding, compared with `generate`. `closed`: probabilities of yes and no, or of four
buckets. A model trained on raw counts chooses among hundreds of numbers, about 140 tokens per
question on RSVQA-LR instead of 20. `answer tokens`: the number decoded on both sides; 2 is a word
and the end token. With this vocabulary each answer token costs more than twice the rest of the
model, on both sides; at 256 px, where an image has only 81 tokens, this keeps the ratio below 25.
""",
    "converge": """\
## Accuracy against time: `benchmarks/converge.py`

Synthetic images of 112 px (16 visual tokens, so there is little to share), a small base model with
random weights, the same time for each row, the better of two learning rates. Question trees do not
cost accuracy: all batch shapes except the two largest, which take too few steps in this time, end
within two points of the baseline or above it. The default, 4 images × 25 questions, is the largest
of these with several images per step; the tables above show its gain with larger images.
""",
    "serve": """\
## Serving: `benchmarks/serve.py`

The server and its clients share the machine; each client sends the next request as soon as it has
the answer. `known`: eight images in turn, which stay cached; `new`: every image is new. Generated
answers have 2 tokens, as above. `requests/pass`: the number of requests answered together.
""",
    "servememory": """\
Memory of a server with a tiny model over 10,000 requests (`--memory`), every other one with a new
image:
""",
    "first": """\
## Time to the first step: `benchmarks/first_step.py`

A tiny base model, hard links to one small image, no vision cache; one run per row. `imports alone`:
a process that only imports the modules of training. The package `datasets`, a development
dependency, was installed and is then imported too.
""",
    "threads": """\
## On a busy machine: `benchmarks/threads.py`

Threads wait for each other at the end of every operation; OpenMP lets them spin. `busy`: as many
other busy processes as there are cores; half of the speed on an idle machine (`quiet`) is then a
fair share. `embedded`: the demo's base model of 5.4 M parameters, images of 64 px; `small`: 84 M,
256 px. In brackets: the ratio to the speed without a setting. Commands set `GOMP_SPINCOUNT=10000`:
on an idle machine it costs almost nothing, and on a busy machine it recovers most of the loss.
Threads that sleep immediately (`PASSIVE`) cost a third of the idle-machine speed. If one of these
variables, or `KMP_BLOCKTIME`, is set, the commands do not change it; the library never does.
""",
}
TAIL = """\
## Not measured

| what | why |
| --- | --- |
| bf16 on a CPU (`--precisions bf16`) | this CPU has no bf16 instructions; minutes per step |
| LLaMA-Factory's own pipeline | not run with this version |
"""


def table(rows: list[dict[str, object]]) -> str:
    """Return rows as a Markdown table."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([str(r[n]) for n in names] for r in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def page() -> str:
    """Return the page."""
    parts = [HEAD]
    for kind, text in SECTIONS.items():
        records = sorted(RESULTS.glob(f"{kind}-*.json"))
        if records:
            parts.append(text)
        for path in records:
            record = json.loads(path.read_text(encoding="utf-8"))
            machine = record["machine"].items()
            facts = ", ".join(v if k == "device" else f"{k} {v}" for k, v in machine)
            parts += [f"{facts}:\n", table(record["rows"])]
    return "\n".join([*parts, TAIL])


def main() -> None:
    """Write the page, or with ``--check`` compare it."""
    if "--check" in sys.argv:
        if PAGE.read_text(encoding="utf-8") != page():
            sys.exit("docs/benchmarks.md is not up to date: make docs")
    else:
        PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
