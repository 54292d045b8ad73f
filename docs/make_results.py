"""Write docs/results.md from docs/results/run-*.json; ``--check`` only compares."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("results.md")
RESULTS = Path(__file__).with_name("results")

INTRO = """\
# Results

<!-- Written by `python docs/make_results.py` from docs/results/run-*.json. -->

Accuracy before and after fine-tuning, under the official protocol ([scoring](scoring.md)), with
95 % confidence intervals clustered by image. *Majority* and *question only* are baselines that
never see an image; *shuffled images* is the fine-tuned model with the wrong images. The first two
sections use the [bundled base model](../src/qwen2vl_rs/models/base/README.md) of 5.4 million
parameters: they measure the method with a very small model, not Qwen2-VL-2B.
"""

FULL = """\
## Qwen2-VL-2B on RSVQA-LR

`python benchmarks/results.py rsvqa-lr-2b FOLDER --data RSVQA_LR --model Qwen/Qwen2-VL-2B-Instruct`
(settings: [configs/rsvqa_lr_2b.toml](../configs/rsvqa_lr_2b.toml)): trained on {train_questions:,}
questions about {train_images} images of the train split, tested on {test_questions:,} questions
about {test_images} images of the test split.
"""

FULL_MISSING = """\
## Qwen2-VL-2B on RSVQA-LR

Not measured yet: it requires a GPU, the model and the data set. To measure it:

```console
$ python benchmarks/results.py rsvqa-lr-2b FOLDER --data RSVQA_LR --model Qwen/Qwen2-VL-2B-Instruct
$ python docs/make_results.py
```

(settings: [configs/rsvqa_lr_2b.toml](../configs/rsvqa_lr_2b.toml))
"""

DEMO = """\
## The demo: synthetic scenes

`qwen2vl-rs demo`: {train_questions:,} questions about {train_images} scenes for training,
{test_questions:,} about {test_images} scenes for the test. Answers are balanced within each
wording of a question, so that the wording does not give the answer away.
"""

REAL = """\
## Real images: a part of RSVQA-LR

`python benchmarks/results.py rsvqa-lr FOLDER --data RSVQA_LR`: the same base model, which was not
trained on real images, with the same settings and number of steps, trained on {train_questions:,}
questions about {train_images} images of RSVQA-LR's train split (a ninth of it), tested on
{test_questions:,} questions about {test_images} images of its val split.
"""

DEMO_CONCLUSION = "The model learnt the answer format, and its answers depend on the image.\n"

REAL_CONCLUSION = """\
**Here the model answers from the wording alone.** The accuracy by itself would look like a success
of fine-tuning. But the question-only baseline is better, and shuffled images cost nothing: with 64
images, the vision tower trained on synthetic scenes does not transfer to Sentinel-2 at 10 m, and
the answers follow from the questions. This is why accuracies are reported with these baselines.
"""

SUMMARY = """\
- Change: {change}, {fixed:,} answers fixed and {broken:,} broken.
- Visual gain over the question-only baseline: {gain}.
- Cost of shuffled images: {cost}.
- Time from the first command to the report: {seconds} s on {cores} cores without a GPU; peak memory
  {memory:.1f} GiB.
"""

MAPS = """\
## Question maps

`python benchmarks/map.py demo/output/demo`: the demo's model on a mosaic of 144 synthetic scenes,
with windows of 256 pixels that overlap by half, so that most windows contain parts of several
scenes. Of
{windows} windows {buildings} show a building (at least nine pixels, by the vectors).

- AUC of P("Is there a building?"), with the vectors as ground truth: **{auc:.3f}**; accuracy at
  0.5:
  {right:.1%}.
- A scene of {pixels} pixels, {large} windows with {few} questions each, takes {seconds} s and
  {memory} GiB more memory than a scene of 512 × 512 pixels.

Speed with {questions} yes/no questions per window, compared with `generate` on each question alone
(small base model with random weights and the real vocabulary):

{speed}
"""

NAMES = {
    "presence": "presence", "count": "count, official buckets", "comp": "comparison",
    "rural_urban": "rural or urban", "AA": "average (AA)", "OA": "overall (OA)",
}  # fmt: skip
COLUMNS = {
    "before": "before", "after": "after", "constant": "majority",
    "question_only": "question only", "shuffled_image": "shuffled images",
}  # fmt: skip


def run_section(name: str, text: str, conclusion: str) -> str:
    """Return the section of one run: data, table, summary, conclusion."""
    found = json.loads((RESULTS / f"run-{name}.json").read_text(encoding="utf-8"))
    train, test = found["data"]
    scores, change = found["scores"], found["change"]
    rows = [["", "n", *COLUMNS.values()], ["---"] + ["---:"] * (1 + len(COLUMNS))]
    for key, label in NAMES.items():
        if key not in scores["after"]["accuracy"]:
            continue
        n = scores["after"]["counted"].get(key, scores["after"]["n"])
        rows.append([label, f"{n:,}", *(_cell(scores[side], key) for side in COLUMNS)])
    data = text.format(
        train_questions=train["questions"],
        train_images=train["images"],
        test_questions=test["questions"],
        test_images=test["images"],
    )
    summary = SUMMARY.format(
        change=_points(change["difference"], change["ci"]),
        fixed=change["wins"],
        broken=change["losses"],
        gain=_points(found["visual_gain"]["OA"], found["visual_gain"]["ci"]),
        cost=_points(found["shuffled_cost"]["OA"], found["shuffled_cost"]["ci"]),
        seconds=found["seconds"],
        cores=found["cores"],
        memory=found["peak_gib"],
    )
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{data}\n{table}\n\n{summary}\n{conclusion}"


def full_section() -> str:
    """Return the section of the full-size model, or how to measure it."""
    if (RESULTS / "run-rsvqa-lr-2b.json").is_file():
        return run_section("rsvqa-lr-2b", FULL, "")
    return FULL_MISSING


def _cell(score: dict[str, Any], key: str) -> str:
    if key not in score["accuracy"]:
        return "–"
    value, low, high = (100 * x for x in score["accuracy"][key])
    return f"{value:.1f} ({low:.1f} to {high:.1f})"


def _points(value: float, ci: list[float]) -> str:
    return f"{100 * value:+.1f} points ({100 * ci[0]:+.1f} to {100 * ci[1]:+.1f})"


def map_section() -> str:
    """Return the section about maps: agreement with vectors, memory, speed."""
    found = json.loads((RESULTS / "map.json").read_text(encoding="utf-8"))
    agreement, memory, speed = found["agreement"], found["memory"], found["speed"]
    rows = [["window, px", "windows/s", "generate, windows/s", "ratio"], ["---:"] * 4]
    rows += [
        [str(r[k]) for k in ("side", "windows/s", "generate windows/s", "ratio")] for r in speed
    ]
    return MAPS.format(
        windows=agreement["windows"],
        buildings=agreement["with a building"],
        auc=agreement["AUC"],
        right=agreement["accuracy at 0.5"],
        pixels=memory["pixels"],
        large=f"{memory['windows']:,}",
        few=memory["questions a window"],
        seconds=memory["seconds"],
        memory=memory["beyond a scene of 512 × 512, GiB"],
        questions=speed[0]["questions a window"],
        speed="\n".join(f"| {' | '.join(row)} |" for row in rows),
    )


def page() -> str:
    """Return the page."""
    parts = [
        INTRO,
        run_section("demo", DEMO, DEMO_CONCLUSION),
        run_section("rsvqa-lr", REAL, REAL_CONCLUSION),
        full_section(),
        map_section(),
    ]
    return "\n".join(parts)


def main() -> None:
    """Write the page, or with ``--check`` compare it."""
    if "--check" not in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        raise SystemExit("docs/results.md is out of date: python docs/make_results.py")


if __name__ == "__main__":
    main()
