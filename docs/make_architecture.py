"""Write docs/architecture.md: the text below, and the first line of every module.

``--check`` only compares. Fails if the page names a file that does not exist.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src/qwen2vl_rs"
PAGE = ROOT / "docs/architecture.md"

TEXT = """\
# Architecture

<!-- Written by `python docs/make_architecture.py`; the tree is made of the modules' first lines. -->

Qwen2-VL-RS turns questions about images into a fine-tuned adapter, and into accuracies that can be
checked. Its central data structure is the **question tree** (`question_tree/tree.py`): an image is
encoded once, questions branch off below it, and answers or candidate answers branch off below the
questions. Training, greedy decoding, candidate ranking, `ask`, `map` and `serve` all build such
trees and run them through the same forward pass (`engine/forward.py`). Only the tokens that greedy
decoding generates after the first take a step of their own, with the cache (`engine/decoding.py`).

## Layers

Imports point down: a package imports packages in lower rows of this table, never in higher ones,
and there are no import cycles. Packages in one row do not import each other, except in the three
lowest rows. `tests/test_layers.py` checks this. There is one exception: when the data sets are
first needed, `known_datasets` imports the files named in `_BUILT_IN` from `datasets`, which
register themselves.

Only the packages marked with a star import torch at the top of a module (in `predict`, only the
modules that run a model on this machine). `maps`, `serve`, `diagnosis`, `library` and `cli` import
those packages when they need a model. The other packages work without torch.

| package | content |
|---|---|
{layers}

## The tree

One responsibility per file, described by the first line of its docstring; no file has more than
400 lines.

{tree}

## Data flow

### An image: from the file to the report

1. `datasets/reading.py` reads the questions of a file, each with the path of its image.
   `datasets/file_forms.py` detects the file format: conversations and CSV are in
   `datasets/tables.py`, files of other tools in `datasets/foreign_records.py` (field names in
   `datasets/record_forms.py`), published data sets in their own files. `datasets/image_paths.py`
   finds images that were moved. `datasets/split.py` splits by image, and the run keeps copies of
   both splits (`datasets/stored.py`).
2. Before training, `training/preparation.py` reads every image header and writes the SHA-256 of
   each image to `images.json` in the run. Training compares this digest whenever it reads an image
   file and stops if the file has changed (`ImageReader.digests`); features that are already
   encoded are not checked again. Predictions are cached by the content of the images.
3. `raster.read_rgb` makes 8-bit RGB. It opens the file (`raster/opening.py`, after the memory
   check in `raster/decoder_memory.py`), masks nodata (`raster/nodata.py`), selects the bands
   (`raster/rgb.py`), converts them to 8 bits with the run's contrast stretch
   (`raster/to_bytes.py`), and flips or rotates the image so that north is up
   (`raster/orientation.py`).
4. `models/images.py` calls the model family's preprocessing: `ImageInput`, a grid of patches.
5. The vision tower encodes the patches (`engine/vision.py`). Training encodes each image once for
   all epochs (`encode_all`; several processes share the images, `training/encoding.py`) and keeps
   the features in the run, in `vision-cache`, until training ends (`training/fit.py` deletes them).
   The cache key is the digest of the image, the fingerprint of the base model, the pixel settings
   and the dtype. If the features exceed `training.vision_cache_gb` or half of the free disk space,
   images are encoded in every epoch. Evaluation, the shuffled-image control, `ask`, `map` and
   `serve` read the image file again and encode it once for all its questions (`with_features`); the
   report reads it to show it.
6. `engine/packing.py` makes one tree per image from its questions and packs trees into packed
   sequences (`Pack`). `question_tree/tree.py` flattens a tree into one sequence, and
   `engine/inputs.py` makes the tensors.
7. `engine/forward.py` runs a packed sequence (attention: `question_tree/attention.py`). In training
   the head gives the losses (`engine/head_loss.py`), else logits: of the first token of each
   generated answer (`engine/decoding.py`), or of candidate answers (`engine/candidates.py`).
8. `before_and_after` in `predict/evaluation.py` evaluates the base model and the checkpoint, and
   the checkpoint again with shuffled images, and writes `compare.json`. Each evaluation is a call
   of `evaluate_predictor` in `predict/predictor.py`: it runs a job (`predict/job.py`) on a model
   (`predict/local.py`, which calls `Session.answers` in `predict/session.py`), writes
   `predictions.jsonl`, scores the answers (`questions/protocols.py`, `scoring/results.py`) and
   writes `results.json`. `train` prints the table made by `reporting/text.py`.
9. `reporting/evidence.py` reads these files. `reporting/scores.py` makes tables and charts
   (`reporting/charts.py`), and `reporting/page.py` writes the page, with images beside the answers
   (`reporting/examples.py`).

### A question

1. `datasets/` reads it from conversations, tables or published files as a `types.Sample`.
2. `questions/grammar.py` finds its type from the wording if the file does not give it. Everything
   that differs between question types is in one class per type (`questions/question_type.py` and
   its subclasses).
3. `datasets/split.py` puts all questions about an image into the same split.
4. `engine/packing.py` plans the epoch: each question once, in a new order in every epoch.
5. `models/prompt.py`, the only module that knows the chat format, turns it into token ids. They are
   the same in training, evaluation, `ask`, `map` and `serve`.
6. In the tree it attends to its image and to no other question.
7. With closed answers, `eval` takes the candidate answers from the training answers
   (`questions/answer_sets.py`). `ask`, `map` and `serve` have no training answers; they choose
   among the `choices` of types that have two. A multiple-choice question brings its own candidates,
   the letters of its options.
8. `questions/protocols.py` decides which questions a protocol counts. `scoring/baselines.py`
   answers them without the image.

### A prediction

1. `predict/job.py` makes a cache key from everything that decides an answer: model, adapter, input
   settings, evaluation settings, questions, and the content of the images.
2. If `inputs.json` has this key and the checksum of `predictions.jsonl`, nothing is computed again.
3. Otherwise the questions go in batches to the model on this machine (`predict/local.py`) or to a
   server (`predict/endpoint.py`).
4. Answers are appended to `predictions.partial-N.jsonl` as they come, so an interrupted command
   resumes.
5. `questions/reply.py` strips reasoning and markup, and `questions/normal_forms.py` parses the rest
   by question type. Answers that cannot be parsed are counted by cause.
6. The complete file is written atomically, and the partial file is removed afterwards.
7. The same questions are asked again with other images: the shuffled-image control.
8. `questions/protocols.py` scores each prediction under every protocol. `scoring/results.py`
   computes the metrics, with confidence intervals clustered by image (`scoring/statistics.py`), and
   adds the baselines.

### A setting

1. A key such as `lora.r` is set in `config.toml`, by an option, or by `--set`.
2. `cli/` collects what was typed. `config.py` defines names, bounds and defaults in one typed tree.
3. `config_file.py` reads and writes the TOML files. All errors are reported together
   (`setting_errors.py`). Names from other tools are answered with
   the name used here (`foreign_settings.py`).
4. `training/fit.py` writes the complete `config.toml` into the run. `training/preparation.py`
   compares the settings that decide the result with `manifest.json` when a run is resumed.
5. Input settings (pixels, instruction) are also stored in the checkpoint: `models/loader.py`.
6. `tests/predict/test_keys.py` states what each setting changes: image features, answers, or a
   resumed run.
7. [settings.md](settings.md) is generated from the docstrings of `config.py`.

## How to add

### A question type

1. One new file in `questions/` with a subclass of `QuestionType`; example: `questions/count.py`.
2. `templates`: patterns of its wording, with a group for each object it asks about.
3. `normalise`: the normal form of an answer, or None if it is not one clear answer. `choices`:
   the candidate answers, if there are two.
4. `official_class` and `candidates`, if they differ from the normal form and from `choices`;
   `of_question`, if each question brings its own candidates (`questions/choice.py`).
5. `score`: from 0 to 1. Partial credit reaches statistics, comparison and report unchanged.
   `parts`: the members of answers that are lists; F1 is then reported too
   (`questions/land_cover.py`).
6. `map_value`: what a map draws: the probability of a word, a number, or a class.
7. An entry in `OFFICIAL` (`questions/registry.py`) for a type of RSVQA, or `registry.add` in the
   file of the data set that has it. `OFFICIAL` has the order of the published tables. Templates are
   tried from the newest type to the oldest, `presence` last, so they must not be too general. Its
   name in both languages: `[type]` in `reporting/i18n.toml`.
8. A test in `tests/questions/`; `tests/questions/test_question_type.py` defines a type and takes it
   through every use.
9. `vqa_generation/questions.py`, if `generate` should ask it.
10. Run `docs/make_scoring.py`, which generates tables of [scoring.md](scoring.md).

### A data set

1. One new file in `datasets/` that registers a `KnownDataset`; example: `datasets/vrsbench.py`.
2. `name` is stored with questions and results. `title`, `licence` and `splits` appear in
   [scoring.md](scoring.md), `title` also in cards. `types` are the types of its questions. With
   `zenodo`, the number of its record, `fetch` downloads a data set in RSVQA's layout.
3. `bucketed`: the types whose numbers are scored in the official buckets. `answers`: candidate
   answers of counts and areas, for use without training questions; without them, a type that is not
   bucketed and has no `choices` has no closed answers until there are training questions.
4. A `FileForm` (`datasets/file_forms.py`) for its file format: `recognises` looks at the beginning
   of the file, `rows` yields tuples of strings in the order of `datasets.base.COLUMNS`; unknown
   values are empty, and `dataset` is the `name`. If each record holds one question,
   `datasets/keyed_rows.py` does this; `Keys.types` maps published categories to question types that
   exist (`"how many": "count"`; [scoring.md](scoring.md) lists them). Names of types are shared by
   all data sets: map a category whose name has another meaning in one of them. `FileStart.record`
   (`datasets/file_opening.py`) is the first record, also of JSON Lines. `file_records` in
   `datasets/tabular.py` reads JSON lists, JSON Lines and tables alike; `records`, `field` and
   `fail` in `datasets/json_records.py` read large files and report errors with the record number. Count
   skipped questions with `LeftOut.add`. Image paths are looked up beside the file (`find_beside`).
5. For a data set in RSVQA's own layout, `prefixes`, `folders`, `image_folders` and
   `matches_image_list` take the place of step 4; example: `datasets/rsvqa_hr.py`.
6. The file's name in `_BUILT_IN` (`known_datasets.py`), and the title in `[dataset]` of
   `reporting/i18n.toml`, where `[type]` has the titles of new question types. All commands that
   take questions now read the files, and `--dataset` accepts the name.
7. A test in `tests/datasets/` with the name of the file (`tests/test_modules.py` requires it);
   `tests/datasets/test_published.py` runs the same cases on every published format: add the set to
   its `SETS`, in the order of `_BUILT_IN`, and to `KEYED` if it uses `Keys`;
   `tests/datasets/test_known_datasets.py` trains, evaluates and reports with a made-up data set.
8. Run `docs/make_scoring.py`, `docs/make_cli.py` and `docs/make_architecture.py`, add a row to
   [data.md](data.md), whose column `checked` says what the reader was compared with, and a line to
   `CHANGELOG.md`.

### A file format of another tool

1. Questions: an entry in `QUESTIONS` (`datasets/record_forms.py`) with the keys that identify a
   record, and the keys of its turns or texts. Results: an entry in `PREDICTIONS`.
2. New field names: in `COLUMNS` or `IMAGES` there.
3. Export: an entry in `EXPORT_FORMATS` (`datasets/export_formats.py`), and its name in
   `cli/export.py`; `tests/datasets/test_foreign_records.py` then reads the exported files back.
4. Records in the tool's published format: in `ONE` of that test, or in `FORMS` of
   `tests/scoring/test_foreign_predictions.py`. A row in [other_tools.md](other_tools.md).

### A model family

1. One new file in `models/` that implements `Family` (`models/family.py`); example:
   `models/qwen_vl.py`.
2. `network`: its class in transformers. `config_problem`: values in a configuration to
   refuse.
3. `processor`, `preprocess`, `grid`: how an image becomes patches, and how many.
4. `root_positions`: the rotary positions of the header, the image and the text after it.
5. `encode` and `image_inputs`: from patches to features, and how the network takes them. `head`:
   the language head, whose output must be the logits (not scaled or capped).
6. `is_block`, `vision_layers`, `merger_layers` and `vision_blocks`: the names of decoder blocks, of
   the vision tower and of the merger, which are trained each in its own way.
7. An entry in `FAMILIES` (`models/family.py`).
8. `tests/support/random_base.py` writes a small base model of it; the fixture `family_base` then
   compares it with plain transformers (`tests/engine/test_decoding.py`).
9. `tests/models/test_family.py` checks that facts of the family appear in no other file.
10. `models/qwen_vl_usage.py` has the Python code for model cards.

### A map output

1. `make_map` in `maps/mapper.py` has the grid, one band of values per question, and the lines of
   `windows.jsonl` when it writes the files.
2. One function in `maps/files.py` that writes the new file atomically, and a call of it in
   `make_map`, beside `write_windows`.
3. `rehearse` in `maps/files.py` is the dry run: it writes and removes an empty file of each kind
   before the work starts, so that a full or unsuitable disk shows early. Add the new file.
4. The value of an answer on a map comes from its question type (`map_value`, `number`).
5. `cli/map.py` prints the file names and describes them in its help; `map.files` in
   `reporting/i18n.toml` describes them on `map.html` (`reporting/map_page.py`).
6. Test it in `tests/maps/test_mapper.py` with a library that users open it with. Describe it in
   [map.md](map.md), and run `docs/make_cli.py`.

### A baseline

1. A baseline (`Baseline` in the code, `controls` in `results.json`) answers the same questions
   without the part that is to be measured. It is fitted on training questions, never on questions
   about images that are scored (`count_training` in `scoring/baselines.py`).
2. A baseline that does not see the image is a function that fits a `LookupClassifier` to
   `TrainingCounts`, such as `question_only_baseline`, and an entry in `BASELINES` with its names.
3. It is then fitted, scored under every protocol, and shown in tables, report and cards
   (`tests/scoring/test_baselines.py` defines one).
4. Asking the model about something else is not an extension point. There is one such control, the
   shuffled images, known by name in `predict/predictor.py`, `scoring/results.py` and the commands.
5. If a baseline cannot be computed, `left_out` in `results.json` gives the reason, one of `REASONS`
   in `scoring/results.py`.
6. Name and explanation in both languages: `[control]`, `[terms]` and `[absent]` in
   `reporting/i18n.toml`. Its marker in charts: `symbol` in `reporting/charts.py`. Its column in
   [results.md](results.md): `COLUMNS` in `docs/make_results.py`.
7. Test it against hand-computed values.
"""


def first_line(path: Path) -> str:
    """Return the first line of a module's docstring."""
    found = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return found.splitlines()[0] if found else ""


def layers() -> tuple[list[set[str]], set[str]]:
    """Return the layers and the packages that may import torch, from tests/test_layers.py."""
    tree = ast.parse((ROOT / "tests/test_layers.py").read_text("utf-8"))
    known = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    return ast.literal_eval(known["LAYERS"]), ast.literal_eval(known["TORCH"])


def layer_rows() -> str:
    """Return one table row per layer."""
    rows = []
    found, torch = layers()
    for names in reversed(found):
        shown = sorted(name for name in names if name and name != "__main__")
        texts = []
        for name in shown:
            package = SOURCE / name / "__init__.py"
            place = package if package.is_file() else SOURCE / f"{name}.py"
            texts.append(first_line(place).rstrip("."))
        label = ", ".join(f"`{name}`{' *' if name in torch else ''}" for name in shown)
        rows.append(f"| {label} | {' · '.join(texts)} |")
    return "\n".join(rows)


def tree() -> str:
    """Return every module with its first line, by package."""
    parts = []
    for names in layers()[0]:
        for name in sorted(names):
            folder = SOURCE / name
            if not name or not folder.is_dir():
                continue
            lines = [
                f"{path.relative_to(SOURCE)}  {first_line(path)}"
                for path in sorted(folder.rglob("*.py"))
                if path.name != "__init__.py"
            ]
            width = max(len(line.split("  ")[0]) for line in lines) if lines else 0
            rows = [f"{a:<{width}}  {b}" for a, _, b in (line.partition("  ") for line in lines)]
            parts.append("```text\n" + "\n".join(rows) + "\n```")
    top = [f"{p.name}  {first_line(p)}" for p in sorted(SOURCE.glob("*.py"))]
    return "\n\n".join(["```text\n" + "\n".join(top) + "\n```", *parts])


def missing(text: str) -> list[str]:
    """Return the files that the page names and that do not exist."""
    named = set(re.findall(r"`((?:\w+/)+\w+\.(?:py|toml|md))`", text))
    named |= set(re.findall(r"\]\((\w+\.md)\)", text))
    places = (SOURCE, ROOT, ROOT / "docs")
    return sorted(name for name in named if not any((place / name).is_file() for place in places))


def main() -> None:
    """Write or check the page."""
    page = TEXT.format(layers=layer_rows(), tree=tree())
    if absent := missing(page):
        sys.exit(f"docs/architecture.md names files that do not exist: {', '.join(absent)}")
    if "--check" in sys.argv:
        if not PAGE.is_file() or PAGE.read_text("utf-8") != page:
            sys.exit("docs/architecture.md is not up to date: python docs/make_architecture.py")
        return
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
