"""``score``, ``report``: of answers that are there already; nothing here needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from ..errors import RunError
from ..system import console
from ..system.oserrors import is_folder
from ..system.terminal import shown
from .common import FILE, DatasetParam, json_text
from .help import Command
from .output import show

_DATASET = click.option(
    "--dataset",
    type=DatasetParam(),
    help="Whose classes apply.  [default: what the predictions say, or how they were scored; "
    "unknown: counts and areas are compared exactly]",
)


_QUESTIONS = click.option(
    "--questions",
    type=FILE,
    help="The test set: questions, answers, types and images of "
    "predictions that do not name them all.",
)


@click.command(
    cls=Command,
    groups={
        "Predictions": "questions against shuffled",
        "Scores": "train protocols dataset",
    },
    examples=[
        "predictions.jsonl --train-questions train.csv",
        "generated_predictions.jsonl --questions test.json --against before.jsonl",
    ],
)
@click.argument("file", type=FILE)
@_QUESTIONS
@click.option(
    "--train-questions",
    "train",
    type=FILE,
    help="Training questions with answers, for the controls that see no image: conversations, "
    "CSV, official question files, or JSON Lines.",
)
@click.option(
    "--against", type=FILE, help="Predictions of the run before, for a paired comparison."
)
@click.option(
    "--shuffled",
    type=FILE,
    help="The same model's answers to the same questions, shown other images.",
)
@click.option(
    "--protocol",
    "protocols",
    multiple=True,
    metavar="NAME",
    help="official, geochat, raw or original; may be repeated.  [default: all]",
)
@_DATASET
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def score(
    file: Path,
    questions: Path | None,
    train: Path | None,
    against: Path | None,
    shuffled: Path | None,
    protocols: Sequence[str],
    dataset: str | None,
    as_json: bool,
) -> None:
    """Score the predictions of any model.

    FILE holds one JSON object a line, with question, answer and prediction; where known also
    id, image, type, text, confidence and dataset. The results of LLaMA-Factory, ms-swift,
    lmms-eval and VLMEvalKit are read as these programs write them, tables too; --questions names
    the test set where they do not hold the questions.
    """
    from ..questions.class_sets import dataset_of_predictions
    from ..questions.protocols import PROTOCOLS
    from ..scoring.comparison import compare_runs
    from ..scoring.predictions import read_predictions, read_questions, read_training
    from ..scoring.results import results
    from ..scoring.tables import render_comparison, render_results

    asked = read_questions(questions)
    run = read_predictions(file, asked)
    names = list(dict.fromkeys(protocols or PROTOCOLS))
    found = results(
        run,
        train=read_training(train, dataset) if train else None,
        shuffled=read_predictions(shuffled, asked) if shuffled else None,
        protocols=names,
        dataset=dataset_of_predictions(file, run, dataset),
    )
    change = against and compare_runs(
        read_predictions(against, asked), run, protocols=names, dataset=found["dataset"]
    )
    if as_json:
        whole = {**found, **({"against": change} if change else {})}
        click.echo(json_text(whole, 2))
        return
    show(render_results(found))
    if change:
        show(f"\nAgainst {shown(against)}\n{render_comparison(change)}")


@click.command(
    cls=Command,
    groups={
        "Predictions of any model": "questions after before shuffled",
        "Scores": "train dataset",
        "Output": "images output lang",
    },
    examples=[
        "output/demo",
        "--after predictions.jsonl --before baseline.jsonl --lang zh -o report",
    ],
)
@click.argument("run", type=FILE, required=False)
@click.option("--after", type=FILE, help="Predictions of any model, instead of a run.")
@click.option("--before", type=FILE, help="Predictions that --after is compared with.")
@click.option("--shuffled", type=FILE, help="Answers of --after's model, shown other images.")
@_QUESTIONS
@click.option(
    "--train-questions",
    "train",
    type=FILE,
    help="Training questions for the controls.  [default: as computed by the run]",
)
@_DATASET
@click.option("--images", type=FILE, help="Folder of the images.  [default: where their paths say]")
@click.option("-o", "--output", type=FILE, help="Folder of the report.  [default: the run's]")
@click.option(
    "--lang", type=click.Choice(["en", "zh"]), default="en", show_default=True, help="Language."
)
def report(
    run: Path | None,
    after: Path | None,
    before: Path | None,
    shuffled: Path | None,
    questions: Path | None,
    train: Path | None,
    dataset: str | None,
    images: Path | None,
    output: Path | None,
    lang: str,
) -> None:
    """Write report.html and report.md: what changed, and whether it looks.

    RUN is the folder of a run, output/Qwen2-VL-2B unless --after is given. The page is one file
    that opens from disk. In --images an image is the file with the longest end of its path.
    """
    if after is None and (before or shuffled or questions):
        raise click.UsageError("--before, --shuffled and --questions need --after")
    if after and run:
        raise click.UsageError("give RUN or --after, not both")
    if images and not is_folder(images):
        raise RunError(f"no folder {images}", hint="--images names the folder of the images")
    from ..reporting.evidence import from_files, from_run
    from ..reporting.page import write_report
    from ..run import Run

    if after:
        found = from_files(after, before, shuffled, train, dataset, questions)
        folder = output or Path()
    else:
        run = run or Path("output/Qwen2-VL-2B")
        Run(run).say_unfinished()
        found = from_run(run, train, dataset)
        folder = output or run
    written = write_report(replace(found, images=images), folder, lang)
    if gone := written.gone:
        console.warn(
            f"{console.counted(len(gone), 'case')} without a picture: the file is not there, e.g. "
            f"{gone[0]}",
            "where the images were moved to: --images FOLDER",
        )
    console.say(f"the same figures as text: {written.markdown}")
    click.echo(shown(written.html))
