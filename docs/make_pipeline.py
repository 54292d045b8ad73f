"""Write docs/pipeline.md from the files of a finished demo: `python docs/make_pipeline.py demo`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from qwen2vl_rs.run import Run

PAGE = Path(__file__).with_name("pipeline.md")

INTRO = """\
# From questions to a comparison: what each file is

<!-- Written by `python docs/make_pipeline.py demo` from the files of a run of `make demo`. -->

Every excerpt below is from one run of `make demo` (drawn scenes, a small base trained on such
scenes). With the real model and data the files are the same, only longer. Nothing is ever
half-written under the names shown here: files are written beside their place and renamed.
"""

STAGES = """\
## The data

| file | written by | what it is |
|---|---|---|
| `rsvqa_questions.json`, `rsvqa_answers.json`, `rsvqa_images/` | RSVQA, you, or `generate` | the official format; split files are read too, see `data2csv --folder` |
| `rsvqa-dataset.csv` | `data2csv` | one line a question: absolute image path, question, answer as stored; `--type` adds the question type |
| `rsvqa-dataset.csv.json` | `data2csv` | what the columns cannot hold: data set, manner of asking, split; belongs to that content of the table alone |
| `data_vl.json` | `csv2json` | one conversation a question, one a line |
| `data_vl_train.json`, `data_vl_test.json` | `train` | the two sides of the split; no image stands in both |

Questions and answers are joined by id, never by position; inactive records, questions without an
answer and questions without an image are left out, counted, and said.
"""

PIXELS = """\
## Pixels

The model sees 8-bit RGB. An 8-bit file is shown as it is. Other files (16-bit, float) are
stretched band by band from the 2nd to the 98th percentile of their valid pixels, or between fixed
values (`--set view.image.value_range=[0,4096]`), which makes equal values look equal in all
images. Bands are those tagged red, green and blue, else the first three; for another choice
`--set view.image.bands=[4,3,2]`. What is no data is black and does not count for the percentiles:
what the file declares by a nodata value, a mask or an alpha band; NaN, infinity and fill values of
floats (from 1e30 on, such as −3.4e38). Where a file declares nothing, a collar is no data too:
pixels that are exactly 0 in all shown bands, joined side by side with the edge of the image, and
together at least 1 % of it. Black water or night at the edge of an image stays data where the file
declares anything, such as a mask without gaps. Masks may also lie beside the file (`scene.tif.msk`), and
nodata values in `scene.tif.aux.xml`, as GDAL and QGIS write them; nothing else beside a file is
read. An image whose geotransform is stored with south up, mirrored, or with rows and columns
swapped is shown with north up and unmirrored, in training, evaluation and use; one that lies
askew, or does not say where it lies, is shown as stored. An image is resized to the nearest multiple of 28
pixels on each side, and only enlarged or reduced when it has fewer than `view.min_pixels` or more
than `view.max_pixels` pixels. All of this stands in `qwen2vl_rs.json` beside every checkpoint, and
is used again when the checkpoint is asked.
"""

PROMPT = """\
## What carries the loss

A prompt is the chat template of the base with the image first, then `view.instruction` (shared by
all questions of an image), then the question. Only the answer and its end token carry loss. Text
that looks like a control token (`<|im_end|>`) is tokenised as plain text.

One optimizer step holds `training.questions_per_image` questions about each of
`training.images_per_step` images; in every epoch every question is asked once. A step too large
for `training.max_tokens_per_pack` is cut into packs, with the same loss and gradients.
"""


def excerpt(path: Path, lines: int, folder: Path, kind: str = "json") -> str:
    """The beginning of a file as a code block, with the run's folder shortened to /data."""
    text = path.read_text(encoding="utf-8").replace(str(folder.resolve()), "/data")
    rows = text.splitlines()
    shown = [row if len(row) <= 160 else row[:157] + "…" for row in rows[:lines]]
    if len(rows) > lines:
        shown.append(f"… ({len(rows):,} lines)")
    return f"`{path.relative_to(folder)}`\n\n```{kind}\n" + "\n".join(shown) + "\n```\n"


def files_of(run: Path) -> str:
    """The run's files as a table."""
    checkpoint = Run(run).newest_checkpoint()
    told = {
        "config.toml": "all settings; `train config.toml --resume` goes on with the run",
        "data/train.json, data/test.json": "the run's own copies of its questions",
        "manifest.json": "versions, device, seed, fingerprint of the base, hashes of the data",
        "images.json": "SHA-256 of every image; training stops at one that changes",
        "metrics.jsonl": "one line a step: loss, gradient norm, learning rate, seconds",
        "train_results.json": "mean loss, time, questions per second",
        "checkpoint-*/adapter_model.safetensors": "the adapter, in PEFT's layout: "
        "`PeftModel.from_pretrained(base, checkpoint)` loads it",
        "checkpoint-*/README.md": "how plain PEFT and transformers run it, as whole Python",
        "checkpoint-*/qwen2vl_rs.json": "the base it belongs to, and what it was shown",
        "checkpoint-*/checksums.json": "written last; `--resume` sets aside "
        "a checkpoint that differs",
        "eval/before, eval/after": "`predictions.jsonl` (every question with the answer) and "
        "`results.json` (all protocols and controls)",
        "eval/shuffled": "the same questions asked of wrong images: the control",
        "compare.json": "before against after, paired, by every protocol",
        "swanlog/": "SwanLab's record, offline unless logged in",
    }
    for name in told:
        for part in name.replace("checkpoint-*", checkpoint.name).split(", "):
            if not (run / part).exists():
                raise SystemExit(f"{run / part} does not exist: the page would be wrong")
    rows = "\n".join(f"| `{name}` | {what} |" for name, what in told.items())
    return f"## The run: `output/demo/`\n\n| file | what it is |\n|---|---|\n{rows}\n"


def main() -> None:
    """Write the page."""
    folder = Path(sys.argv[1]).resolve()
    run = folder / "output" / "demo"
    results = json.loads((run / "eval/after/results.json").read_text(encoding="utf-8"))
    official = results["protocols"]["official"]
    blind = results["controls"]["question_only"]["official"]["OA"]
    shuffled = results["controls"]["shuffled_image"]["official"]["OA"]
    gain = results["visual_gain"]["official"]
    low, high = (100 * x for x in official["OA_ci"])
    verdict = (
        f"In this run OA (official protocol, n = {official['n']:,}) came to "
        f"{100 * official['OA']:.1f} % (95 % interval {low:.1f} to {high:.1f}); the question-only "
        f"table gets {100 * blind:.1f} %, the model shown wrong images {100 * shuffled:.1f} %. "
        f"Visual gain {100 * gain['OA']:+.1f} points "
        f"({100 * gain['ci'][0]:+.1f} to {100 * gain['ci'][1]:+.1f}).\n"
    )
    checkpoint = Run(run).newest_checkpoint()
    parts = [
        INTRO,
        STAGES,
        excerpt(folder / "rsvqa-dataset.csv", 4, folder, "text"),
        excerpt(folder / "data_vl.json", 3, folder),
        PIXELS,
        PROMPT,
        files_of(run),
        excerpt(run / "metrics.jsonl", 2, folder),
        excerpt(run / "train_results.json", 9, folder),
        excerpt(checkpoint / "qwen2vl_rs.json", 20, folder),
        excerpt(run / "eval/after/predictions.jsonl", 3, folder),
        verdict,
        "How answers are scored: [scoring.md](scoring.md).\n",
    ]
    PAGE.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
