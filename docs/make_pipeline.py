"""Write docs/pipeline.md from the files of a finished demo: `python docs/make_pipeline.py demo`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from qwen2vl_rs.run import Run

PAGE = Path(__file__).with_name("pipeline.md")

INTRO = """\
# Files of a run

<!-- Written by `python docs/make_pipeline.py demo` from the files of a run of `make demo`. -->

All excerpts are from one run of `make demo` (synthetic scenes, and a small base model trained on
such scenes). With the real model and data the files are the same, but longer. All files are written
atomically: a file with its final name is complete.
"""

STAGES = """\
## The data

| file | written by | content |
|---|---|---|
| `rsvqa_questions.json`, `rsvqa_answers.json`, `rsvqa_images/` | RSVQA, you, or `generate` | the official format; for split files see `data2csv --folder` |
| `rsvqa-dataset.csv` | `data2csv` | one line per question: absolute image path, question, unchanged answer; `--type` adds the question type |
| `rsvqa-dataset.csv.json` | `data2csv` | sidecar metadata: data set, style of the questions, split; ignored if the table changes |
| `data_vl.json` | `csv2json` | one conversation per question, one per line |
| `data_vl_train.json`, `data_vl_test.json` | `train` | the training and test split; they share no image |

Questions and answers are joined by id, never by position. Inactive records, questions without an
answer and questions without an image are skipped, and their numbers are printed.
"""

PIXELS = """\
## Pixels

The model sees 8-bit RGB.

- **Contrast stretch.** 8-bit files are not changed. Other files (16-bit, float) are stretched band
  by band from the 2nd to the 98th percentile of their valid pixels, or between fixed values (`--set
  view.image.value_range=[0,4096]`), so that equal values look equal in all images.
- **Bands.** The bands tagged red, green and blue, or else the first three. To change them:
  `--set view.image.bands=[4,3,2]`.
- **Nodata** is black and excluded from the percentiles: pixels that the file declares by a nodata
  value, a mask or an alpha band; NaN, infinity and fill values of floats (from 1e30 on, such as
  −3.4e38). If a file declares nothing, a black border is nodata too: pixels that are exactly 0 in
  all shown bands, connected (by sides) with the edge of the image, and together at least 1 % of it.
  Black water or night at the edge stays data if the file declares anything, such as a mask without
  gaps. A mask can also be in `scene.tif.msk`, and a nodata value in `scene.tif.aux.xml`, as GDAL
  and QGIS write them; no other sidecar files are read.
- **Orientation.** An image whose geotransform has south up, is mirrored, or swaps rows and columns
  is shown with north up and unmirrored. A rotated image, or one without a geotransform, is shown as
  stored.
- **Size.** Each side is resized to the nearest multiple of 28 pixels (Qwen3-VL: 32). The image is
  enlarged only below `view.min_pixels`, and reduced only above `view.max_pixels`.

Training, evaluation and inference use the same pixels: these settings are stored in
`qwen2vl_rs.json` in every checkpoint.
"""

PROMPT = """\
## Prompt and loss

A prompt is the chat template of the base model with the image, then `view.instruction` (shared by
all questions about an image), then the question. Only the answer and its end token contribute to
the loss. Control tokens in a text (`<|im_end|>`) are tokenised as plain text.

One optimizer step has `training.questions_per_image` questions about each of
`training.images_per_step` images; an epoch uses every question once. A step that exceeds
`training.max_tokens_per_pack` is split into several packed sequences, with the same loss and
gradients.
"""


def excerpt(path: Path, lines: int, folder: Path, kind: str = "json") -> str:
    """Return the first lines of a file as a code block, with the folder shortened to /data."""
    text = path.read_text(encoding="utf-8")
    for place in (folder, folder.resolve()):
        text = text.replace(str(place), "/data")
    rows = text.splitlines()
    shown = [row if len(row) <= 160 else row[:157] + "…" for row in rows[:lines]]
    if len(rows) > lines:
        shown.append(f"… ({len(rows):,} lines)")
    return f"`{path.relative_to(folder)}`\n\n```{kind}\n" + "\n".join(shown) + "\n```\n"


def files_of(run: Path) -> str:
    """Return the table of the run's files."""
    checkpoint = Run(run).newest_checkpoint()
    files = {
        "config.toml": "all settings; `train config.toml --resume` resumes the run",
        "data/train.json, data/test.json": "the run's own copies of its questions",
        "manifest.json": "versions, device, seed, fingerprint of the base model, hashes of the data",
        "images.json": "SHA-256 of every image; training stops if an image changes",
        "metrics.jsonl": "one line per step: loss, gradient norm, learning rate, seconds",
        "train_results.json": "mean loss, time, questions per second",
        "checkpoint-*/adapter_model.safetensors": "the adapter, in PEFT's layout: "
        "`PeftModel.from_pretrained(base, checkpoint)` loads it",
        "checkpoint-*/README.md": "complete Python code that runs it with plain PEFT and transformers",
        "checkpoint-*/qwen2vl_rs.json": "its base model, and the input settings (pixels, instruction)",
        "checkpoint-*/checksums.json": "written last; `--resume` moves a checkpoint that differs "
        "out of the way",
        "eval/before, eval/after": "`predictions.jsonl` (every question with its prediction) and "
        "`results.json` (all protocols and baselines)",
        "eval/shuffled": "the same questions with shuffled images (control)",
        "compare.json": "paired comparison of before and after, under every protocol",
        "swanlog/": "SwanLab's log, offline unless you are logged in",
    }
    for name in files:
        for part in name.replace("checkpoint-*", checkpoint.name).split(", "):
            if not (run / part).exists():
                raise SystemExit(f"{run / part} does not exist: the page would be wrong")
    rows = "\n".join(f"| `{name}` | {what} |" for name, what in files.items())
    return f"## The run: `output/demo/`\n\n| file | content |\n|---|---|\n{rows}\n"


def main() -> None:
    """Write the page."""
    folder = Path(sys.argv[1]).absolute()
    run = folder / "output" / "demo"
    results = json.loads((run / "eval/after/results.json").read_text(encoding="utf-8"))
    official = results["protocols"]["official"]
    question_only = results["controls"]["question_only"]["official"]["OA"]
    shuffled = results["controls"]["shuffled_image"]["official"]["OA"]
    gain = results["visual_gain"]["official"]
    low, high = (100 * x for x in official["OA_ci"])
    verdict = (
        f"In this run OA (official protocol, n = {official['n']:,}) is "
        f"{100 * official['OA']:.1f} % (95 % interval {low:.1f} to {high:.1f}); the question-only "
        f"baseline gets {100 * question_only:.1f} %, the model with shuffled images "
        f"{100 * shuffled:.1f} %. "
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
        "Scoring: [scoring.md](scoring.md).\n",
    ]
    PAGE.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
