"""Write docs/architecture.md: text from here, the tree from the modules' own first lines.

``--check`` only compares. Every path and module that the page names must be there.
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

Qwen2-VL-RS turns image questions into a fine-tuned adapter and into figures that can be checked.
The one central idea is the **question tree** (`question_tree/tree.py`): an image is encoded once,
questions branch off below it, and answers or candidate answers below the questions. Training,
free answers, closed answers, `ask`, `map` and `serve` are all such trees; there is no second path
to keep in step.

## Layers

Imports point down: a package may import those below it in this table, and no other;
`tests/test_layers.py` reads the imports and enforces it, and that no module imports itself through
others. Only the packages marked with a star import torch (of `predict`, only its local side);
`maps`, `serve` and `cli` load them when they need a model. All others work without torch.

| package | what it holds |
|---|---|
{layers}

## The tree

One duty a file, in the words of its first line; no file has more than 400 lines.

{tree}

## The way of an image, from file to figure

1. A record of a file names a path (`datasets/reading.py`, which asks `datasets/file_forms.py` for the
   form of the file; conversations and CSV are `datasets/tables.py`, what other programs write is
   `datasets/foreign_records.py`, by the mappings in `datasets/record_forms.py`);
   `datasets/image_paths.py` finds images that were moved. `datasets/split.py` divides the images,
   and the run keeps both sides (`datasets/stored.py`).
2. Before training, `training/preparation.py` looks at every header and writes each image's digest
   into the run (`images.json`); whenever training reads a file that has changed, it stops
   (`ImageReader.digests`), and predictions are keyed by the content of the images.
3. `raster.read_rgb` makes 8-bit RGB: the file is opened (`raster/opening.py`, guarded by
   `raster/decoder_memory.py`), data are told from no data (`raster/nodata.py`), values become
   colours by the run's rule (`raster/rgb.py`, `raster/to_bytes.py`), north is turned up
   (`raster/orientation.py`).
4. `models/images.py` has the family resize and cut it: `ImageInput`, a grid of patches.
5. The vision tower runs on it. Training does so once for all epochs (`engine/vision.py`,
   `encode_all`) and keeps the features in the run, in `vision-cache`, until it is finished, by the
   digest of the image, of the base and of the pixel settings; where they would not fit on the disk,
   in every epoch. Evaluation, `ask`, `map` and `serve` read the file again, once for all questions
   that are asked about it then (`encoded`).
6. `engine/packing.py` puts the image's questions below it as branches of a tree and fills packs;
   `question_tree/tree.py` lays them out as one sequence; `engine/inputs.py` makes tensors.
7. `forward` in `engine/decoding.py` runs a pack (attention: `question_tree/attention.py`). From its
   logits come the loss (`training/trainer.py`), free answers (`engine/decoding.py`) or exact
   probabilities of candidates (`engine/candidates.py`).
8. `predict/predictor.py` takes a job (`predict/job.py`) through a model (`predict/local.py`, which
   holds a `predict/session.py`) and keeps the answers as `predictions.jsonl`;
   `questions/protocols.py` judges each, `scoring/results.py` scores them, and `evaluated` writes
   `results.json`. After training, `before_and_after` in `predict/evaluation.py` does so for base,
   checkpoint and wrong images, and writes `compare.json`; `train` prints what `reporting/text.py` says.
9. `reporting/evidence.py` reads these files, `reporting/scores.py` makes tables and charts
   (`reporting/charts.py`), `reporting/page.py` the page, with the image beside its answers (`reporting/examples.py`).

## The way of a question

1. `datasets/` reads it from conversations, a CSV table or RSVQA's own files as a `types.Sample`.
2. `questions/grammar.py` finds its type by its wording, unless the file says it; all that differs
   between types stands in one class a type (`questions/question_type.py` and its files).
3. `datasets/split.py` puts all questions about an image on one side.
4. `engine/packing.py` plans the epoch: every question once, in a new order each time.
5. `models/prompt.py`, the one place that knows the chat format, turns it into token ids: the
   same ids in training, evaluation, `ask`, `map` and `serve`.
6. In the tree it sees its image, and none of its neighbours.
7. Where answers are closed, `eval` takes candidates from the training answers
   (`questions/answer_sets.py`); `ask`, `map` and `serve`, which know no training answers, choose
   between the `choices` of types that have two. A multiple choice brings its own: its letters.
8. `questions/protocols.py` says which questions count, `scoring/baselines.py` what is answered
   without looking at the image.

## The way of a prediction

1. `predict/job.py` makes a key of all that decides an answer: model, adapter, view, settings,
   questions, contents of the images.
2. Where `predictions.jsonl` has this key and its own checksum, nothing is asked again.
3. Else questions go in batches to the model on this machine (`predict/local.py`) or to a server
   (`predict/endpoint.py`).
4. Each answer is appended to `predictions.partial-N.jsonl` at once: a killed command resumes.
5. `questions/reply.py` takes thoughts and marks off, `questions/normal_forms.py` reads the rest by
   the type of the question; what cannot be read is counted by cause.
6. The whole file is written beside its place, flushed and renamed; only then the part is removed.
7. The same questions are asked once more about other images: the shuffled-image control.
8. `questions/protocols.py` judges it by every protocol; `scoring/results.py` adds up, with
   intervals clustered by image (`scoring/statistics.py`) and the controls beside it.

## The way of a setting

1. A key such as `lora.r` stands in `config.toml`, in an option, or in `--set`.
2. `cli/` collects what was typed; `config.py` is the one typed tree: names, bounds, defaults.
3. All errors are told at once (`setting_errors.py`); names from other programs are answered with
   ours (`foreign_settings.py`).
4. `run.py` keeps the run's own `config.toml`; `training/preparation.py` writes what decides the
   result into `manifest.json` and compares it when a run is resumed.
5. Settings of the view (pixels, instruction) go into the checkpoint too: `models/loader.py`.
6. `tests/predict/test_keys.py` states for every setting what it changes: image features,
   answers, a resumed run.
7. [settings.md](settings.md) is made from the docstrings of `config.py`.

## How to add

**A question type.**

1. One new file in `questions/` with a subclass of `QuestionType`: `questions/count.py` is one.
2. `templates`: patterns of its wording, with a group for each object it asks about.
3. `normalise`: what is one clear answer; `choices`, where there are only two.
4. `official_class` and `candidates`, where they differ from the normal form.
   `of_question`, where each question says what it can be answered with (`questions/choice.py`).
5. `score`: from 0 to 1; partial credit goes through statistics, comparison and report as it is.
   `parts`, where answers are lists: then F1 stands beside it (`questions/land_cover.py`).
6. `map_value`: what a map draws: the probability of a word, a number, or a class.
7. Its place in `OFFICIAL` (`questions/registry.py`): the order of the published tables, and
   from the last to the first that in which wordings are tried (`presence` at the end): templates
   must not be wide. Its name in two languages:
   `[type]` in `reporting/i18n.toml`.
8. One test in `tests/questions/`; `tests/questions/test_question_type.py` makes up a type and
   takes it through every use.
9. `vqa_generation/questions.py`, if `generate` is to ask it.
10. [scoring.md](scoring.md) is generated (`docs/make_scoring.py`): write it anew.

**A data set.**

1. One new file in `datasets/` that registers a `KnownDataset`: `datasets/rsvqa_hr.py` is one.
2. `name` as it stands with questions and in results; `title` and `licence` for people.
3. `prefixes` and `folders`: by which its published files and images are recognised.
4. `types` of its questions, `bucketed`: those whose numbers are compared in the official buckets,
   `answers`: what can be said where no training question is known.
5. `matches_image_list`: which records of an image list (`…images.json`) are its own, where the names do not say.
   This and the step before next are for files in RSVQA's layout only.
6. Its file in `_BUILT_IN` (`known_datasets.py`), its title in `[dataset]` of `reporting/i18n.toml`.
7. Questions in a form of its own: the file registers a `FileForm` (`datasets/file_forms.py`) that
   recognises how such a file begins and gives its rows: texts in the order of
   `datasets.base.COLUMNS`, those that are not known empty, `dataset` being its `name`.
   `datasets/vrsbench.py` is one (by `datasets/keyed_rows.py`: each record is a question);
   `records`, `field` and `fail` in `datasets/json_records.py` read large files and name what is
   wrong. All commands that take questions then read it.
8. `make docs` writes the pages that name it (or `docs/make_scoring.py`, `make_cli.py`,
   `make_architecture.py` alone).
9. `tests/datasets/test_known_datasets.py` makes up a data set and trains, evaluates, scores and
   reports with it.

**The files of another program.**

1. Its questions: a line in `QUESTIONS` (`datasets/record_forms.py`): by which keys a record is
   recognised, and where its turns or texts stand. Its results: a line in `PREDICTIONS`.
2. Names of fields that are new: in `COLUMNS` or `IMAGES` there.
3. What is to be written for it: a line in `EXPORT_FORMATS` (`datasets/export_formats.py`), and its name in
   `cli/export.py`; `tests/datasets/test_foreign_records.py` then reads it back.
4. Records in the program's published format in `ONE` of that file, or in `FORMS` of
   `tests/scoring/test_foreign_predictions.py`; its line in [other_tools.md](other_tools.md).

**A family of models.**

1. One new file in `models/` that fulfils `Family` (`models/family.py`): `models/qwen_vl.py` is one.
2. `network`: its class in transformers; `wrong`: values of a configuration to refuse.
3. `processor`, `cut`, `grid`: how an image becomes patches, and how many there will be.
4. `root_positions`: the rotary positions of header, image and what follows.
5. `encode` and `image_inputs`: from patches to features, and how `forward` takes them.
6. `is_block` and `vision_layers`: where an adapter may sit.
7. Its place in `FAMILIES` (`models/family.py`).
8. `tests/support/random_base.py` writes a small base of it; the fixture `family_base` then takes it
   through the comparison with plain transformers (`tests/engine/test_decoding.py`).
9. `tests/models/test_family.py` sees that none of its facts stands elsewhere.
10. `models/qwen_vl_usage.py` has the Python of the model cards.

**A map output.**

1. `make_map` in `maps/mapper.py` ends with a `Mapped`: grid, bands of values, lines of
   `windows.jsonl`.
2. A file for other programs is one function in `maps/files.py` that writes beside its place and
   renames; `make_map` calls it before.
3. `rehearse` in `maps/files.py` writes and removes an empty one of each file before the work begins, so that
   hours of it do not end on a disk that cannot take them: add yours.
4. What an answer is worth on a map is said by its question type (`map_value`, `number`).
5. `cli/map.py` names the files on stdout, `[map]` in `reporting/i18n.toml` on the page; the page `map.html` is `reporting/map_page.py`.
6. Test it in `tests/maps/test_mapper.py` by opening it with the library its users have;
   [map.md](map.md) says what opens it.

**A control.**

1. A control answers the same questions without what is to be measured; baselines are fitted on
   training questions (`count_training` in `scoring/baselines.py`), never on images that are scored.
2. One that sees no image is a function from `TrainingCounts` to a `LookupClassifier`, as `question_only_baseline` is, and an
   entry of `BASELINES` there, with what it is called.
3. With that it is fitted, scored by every protocol and shown in tables, report and cards
   (`tests/scoring/test_baselines.py` makes up one).
4. One that asks the model about something else is another job (`predict/job.py`): there is one, the
   shuffled images, which `predict/predictor.py`, `scoring/results.py` and the commands know by name.
5. Where it cannot be computed, `left_out` in `results.json` says why, by one of `REASONS`
   (`scoring/results.py`).
6. Name and explanation in two languages: `[control]`, `[terms]` and `[absent]` in
   `reporting/i18n.toml`; its sign
   in charts: `symbol` in `reporting/charts.py`.
7. Test it by figures made by hand.
"""


def first_line(path: Path) -> str:
    """The first line of a module's docstring."""
    found = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return found.splitlines()[0] if found else ""


def layers() -> tuple[list[set[str]], set[str]]:
    """The layers, and what may import torch, as the test has them."""
    tree = ast.parse((ROOT / "tests/test_layers.py").read_text("utf-8"))
    known = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    return ast.literal_eval(known["LAYERS"]), ast.literal_eval(known["TORCH"])


def layer_rows() -> str:
    """A row of the table for each layer."""
    rows = []
    found, torch = layers()
    for names in reversed(found):
        shown = sorted(name for name in names if name and name != "__main__")
        told = []
        for name in shown:
            package = SOURCE / name / "__init__.py"
            place = package if package.is_file() else SOURCE / f"{name}.py"
            told.append(first_line(place).rstrip("."))
        label = ", ".join(f"`{name}`{' *' if name in torch else ''}" for name in shown)
        rows.append(f"| {label} | {' · '.join(told)} |")
    return "\n".join(rows)


def tree() -> str:
    """Every module with its duty, by package."""
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
    """Files that the page names and that are not there."""
    named = set(re.findall(r"`((?:\w+/)+\w+\.(?:py|toml|md))`", text))
    named |= set(re.findall(r"\]\((\w+\.md)\)", text))
    places = (SOURCE, ROOT, ROOT / "docs")
    return sorted(name for name in named if not any((place / name).is_file() for place in places))


def main() -> None:
    """Write or check the page."""
    page = TEXT.format(layers=layer_rows(), tree=tree())
    if absent := missing(page):
        sys.exit(f"docs/architecture.md names what is not there: {', '.join(absent)}")
    if "--check" in sys.argv:
        if not PAGE.is_file() or PAGE.read_text("utf-8") != page:
            sys.exit("docs/architecture.md is not up to date: python docs/make_architecture.py")
        return
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
