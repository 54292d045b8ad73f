"""Write docs/benchmarks.md from the JSON files of the benchmarks in docs/results/."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("benchmarks.md")
RESULTS = Path(__file__).with_name("results")
HEAD = """\
# Benchmarks

<!-- Written by `python docs/make_benchmarks.py` from docs/results/*.json. -->

Except against other programs, both sides of every ratio ran in one process, with the same weights,
images, questions and adapter. The base model is a Qwen2-VL with random weights (speed does not
depend on the weights) and the real vocabulary: 84 M parameters, 58 M of them in the embedding of
151,936 tokens. The baseline (`plain`) is the model's own forward pass on padded batches of four
questions, or its own `generate` on one.
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
PEERS = """\
Each program trains through its own command, in an environment of its own: the same base model,
questions ({questions}), pixels and LoRA adapter (r 64, all linear layers of the language model), the
same learning rate and schedule, {threads} threads. Ours otherwise runs with all of its defaults. The
time is each program's own `train_runtime`, without imports and loading; ours does not contain the
encoding of the images, which is added. The others see the questions once, in steps of 16
(ms-swift's default), ours three times, its default. All settings of the others are tried on few
questions (`tried`); the fastest two of each then take turns with ours on more of them (`race`). A
ratio is the median over pairs of neighbouring runs. `make bench-peers` repeats this in hours;
`DATA="--data LR HR"` names folders of RSVQA's files, otherwise scenes are drawn.
"""
EQUAL = """\
Equal work, in float32 without dropout: the mean loss of three steps on the same 16 questions, and
the expected one of the plain model with a plain PEFT adapter, on padded batches with the labels of
each program. Both other programs also train the line end behind the end token of an answer, so
their mean is a different one.
"""
NOT_MEASURED = {
    "bf16 on a CPU (`--precisions bf16`)": "the CPU of these tables has no bf16 instructions: minutes per step",
    "LLaMA-Factory and ms-swift": "not run with this version: `make bench-peers`",
}


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows as a Markdown table."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([str(r[n]) for n in names] for r in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def against(record: dict[str, Any]) -> str:
    """Return the section of the comparison with other programs."""
    machine = record["machine"]
    lines = [
        f"- **{one['side']} px: {one['ratio']} times as fast as {one['program']}**, the fastest other "
        f"program, at its fastest setting ({one['setting']}): {one['ours questions/s']} against "
        f"{one['questions/s']} questions/s"
        for one in record["fastest"]
    ]
    equal = [
        {
            "program": name,
            "tokens with loss": one["labels"],
            "trained parameters": f"{one['trained']:,}",
            "loss of steps 1 to 3": ", ".join(f"{loss:.5f}" for loss in one["losses"]),
            "expected": ", ".join(f"{loss:.5f}" for loss in one["expected"]),
            "largest difference": f"{one['difference']:.0e}",
        }
        for name, one in record["equal"].items()
    ]
    every = [
        {
            "side": row["side"],
            "program": row["program"],
            "setting": row["setting"],
            "run": row["phase"],
            "questions": row["questions"] or "",
            "questions/s": row["questions/s"] or "",
            "error": (row["error"] or "").replace("|", "\\|"),
        }
        for row in record["rows"].values()
    ]
    versions = [{"program": name, **found} for name, found in named_versions(machine).items()]
    facts = f"{machine['cpu']}, 16-bit instructions: {machine['16-bit instructions']}"
    text = PEERS.format(threads=machine["threads"], questions=record["questions"])
    used = [
        {"side": one["side"], **one["used"]}
        for one in {
            row["side"]: row
            for row in record["rows"].values()
            if row["phase"] == "race" and row["program"] == "qwen2vl-rs" and not row["error"]
        }.values()
    ]
    parts = ["## Against other programs: `benchmarks/peers.py`\n", "\n".join(lines) + "\n", text,
             f"{facts}.\n", table(versions), "Medians of the races:\n", table(record["ratios"]),
             "What our defaults were on this machine:\n", table(used), EQUAL, table(equal),
             "All runs:\n", table(every)]  # fmt: skip
    return "\n".join(parts)


def named_versions(machine: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return the versions of each program and its libraries, under the same names."""
    return {
        name: {"version": found[name], **{k: v for k, v in found.items() if k != name}}
        for name, found in machine["versions"].items()
    }


def page() -> str:
    """Return the page."""
    parts = [HEAD]
    peers, missing = RESULTS / "peers.json", dict(NOT_MEASURED)
    if peers.exists():
        parts.append(against(json.loads(peers.read_text(encoding="utf-8"))))
        del missing["LLaMA-Factory and ms-swift"]
    for kind, text in SECTIONS.items():
        records = sorted(RESULTS.glob(f"{kind}-*.json"))
        if records:
            parts.append(text)
        for path in records:
            record = json.loads(path.read_text(encoding="utf-8"))
            machine = record["machine"].items()
            facts = ", ".join(v if k == "device" else f"{k} {v}" for k, v in machine)
            parts += [f"{facts}:\n", table(record["rows"])]
    unknown = [{"what": what, "why": why} for what, why in missing.items()]
    return "\n".join([*parts, "## Not measured\n", table(unknown)])


def main() -> None:
    """Write the page, or with ``--check`` compare it."""
    if "--check" in sys.argv:
        if PAGE.read_text(encoding="utf-8") != page():
            sys.exit("docs/benchmarks.md is not up to date: make docs")
    else:
        PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
