"""Write docs/results.md from docs/results/run-*.json; ``--check`` only says whether it is so."""

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

What fine-tuning changed, under the official protocol ([how answers are scored](scoring.md)), with
95 % intervals clustered by image. *Question only* is a table that never sees an image; *wrong
image* is the same model shown another scene. The first two are on the
[embedded base](../src/qwen2vl_rs/models/base/README.md) of 5.4 million parameters: these are
figures of the method and of a very small model, not of Qwen2-VL-2B.
"""

FULL = """\
## Qwen2-VL-2B on RSVQA-LR

`python benchmarks/results.py rsvqa-lr-2b FOLDER --data RSVQA_LR --model Qwen/Qwen2-VL-2B-Instruct`
(settings: [configs/rsvqa_lr_2b.toml](../configs/rsvqa_lr_2b.toml)): {train_questions:,} questions
about {train_images} images of the train split, asked {test_questions:,} questions about
{test_images} images of the test split.
"""

FULL_MISSING = """\
## Qwen2-VL-2B on RSVQA-LR

Not measured yet: it wants a GPU, the model and the data set. Whoever has them fills this in:

```console
$ python benchmarks/results.py rsvqa-lr-2b FOLDER --data RSVQA_LR --model Qwen/Qwen2-VL-2B-Instruct
$ python docs/make_results.py
```

(settings: [configs/rsvqa_lr_2b.toml](../configs/rsvqa_lr_2b.toml))
"""

DEMO = """\
## The demo: drawn scenes

`qwen2vl-rs demo`: {train_questions:,} questions about {train_images} scenes to train on,
{test_questions:,} about {test_images} others, drawn from other seeds, to ask. Answers are balanced
within each question's wording, so that words alone give nothing away.
"""

REAL = """\
## Real images: RSVQA-LR in small

`python benchmarks/results.py rsvqa-lr FOLDER --data RSVQA_LR`: the same base, which has never met a
real image, with the same settings and as many steps, on {train_questions:,} questions about
{train_images} images of RSVQA-LR's train split (a ninth of it), asked {test_questions:,} questions
about {test_images} images of its val split.
"""

DEMO_SAYS = "It learnt the form of the answers, and it answers from the image.\n"

REAL_SAYS = """\
**Here it answers from the wording alone.** The accuracy by itself would look like a success of
fine-tuning; that a table without eyes does better, and that another image costs nothing, says that
the base's sight, learnt on drawings, does not carry over to Sentinel-2 at 10 m with 64 images, and
that the answers follow from the questions. This is why accuracies here come with these controls.
"""

SUMMARY = """\
- Change: {change}, {fixed:,} answers fixed and {broken:,} broken.
- Visual gain, over the table that never sees an image: {gain}.
- What a wrong image costs: {cost}.
- From the first command to the report {seconds} s on {cores} cores without a GPU, {memory:.1f} GiB
  at most.
"""

MAPS = """\
## Question maps

`python benchmarks/map.py demo/output/demo`: the demo's model over a mosaic of 144 drawn scenes,
windows of 256 pixels that overlap by half, so that most straddle several scenes. Of
{windows} windows {buildings} show a building (nine pixels of one or more, by the vectors).

- AUC of P("Is there a building?") against the vectors: **{auc:.3f}**; right at 0.5: {right:.1%}.
- A scene of {pixels} pixels, {large} windows with {few} questions each: {seconds} s, and
  {memory} GiB of memory beyond what a scene of 512 × 512 takes.

Speed with {questions} yes/no questions a window, the small random base with the real vocabulary,
against `generate` on each question alone:

{speed}
"""

NAMES = {
    "presence": "presence", "count": "count, official buckets", "comp": "comparison",
    "rural_urban": "rural or urban", "AA": "average (AA)", "OA": "overall (OA)",
}  # fmt: skip
COLUMNS = {
    "before": "before", "after": "after", "constant": "most frequent answer",
    "question_only": "question only", "shuffled_image": "wrong image",
}  # fmt: skip


def run_section(name: str, text: str, says: str) -> str:
    """One run: what it was, a table, and what it says."""
    found = json.loads((RESULTS / f"run-{name}.json").read_text(encoding="utf-8"))
    train, test = found["data"]
    scores, change = found["scores"], found["change"]
    rows = [["", "n", *COLUMNS.values()], ["---"] + ["---:"] * (1 + len(COLUMNS))]
    for key, label in NAMES.items():
        if key not in scores["after"]["accuracy"]:
            continue
        n = scores["after"]["counted"].get(key, scores["after"]["n"])
        rows.append([label, f"{n:,}", *(_cell(scores[side], key) for side in COLUMNS)])
    told = text.format(
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
    return f"{told}\n{table}\n\n{summary}\n{says}"


def full_section() -> str:
    """The full-size model, where somebody has run it."""
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
    """Maps: agreement with vectors, memory, speed."""
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
    """The whole page."""
    parts = [
        INTRO,
        run_section("demo", DEMO, DEMO_SAYS),
        run_section("rsvqa-lr", REAL, REAL_SAYS),
        full_section(),
        map_section(),
    ]
    return "\n".join(parts)


def main() -> None:
    """Write the page, or check it."""
    if "--check" not in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        raise SystemExit("docs/results.md is out of date: python docs/make_results.py")


if __name__ == "__main__":
    main()
