"""``score`` and ``report``: work on existing predictions, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click

from ..errors import RunError
from ..system import console
from ..system.oserrors import is_folder
from ..system.terminal import printable
from .common import FILE, DatasetParam, json_text
from .help import Command
from .output import show

_DATASET = click.option(
    "--dataset",
    type=DatasetParam(),
    help="Data set whose classes apply.  [default: as the predictions say, or as they were scored; "
    "unknown: counts and areas are compared exactly]",
)


_QUESTIONS = click.option(
    "--questions",
    type=FILE,
    help="The test set, where the predictions do not hold their questions.",
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
    help="Training questions with answers, for the majority and question-only baselines.",
)
@click.option("--against", type=FILE, help="Earlier predictions, for a paired comparison.")
@click.option(
    "--shuffled",
    type=FILE,
    help="Predictions of the same model with shuffled images.",
)
@click.option(
    "--protocol",
    "protocols",
    multiple=True,
    metavar="NAME",
    help="official, geochat, raw or original; can be repeated.  [default: all]",
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

    FILE holds one JSON object per line with question, answer and prediction, and where known id,
    image, type, text, confidence and dataset. Results of LLaMA-Factory, ms-swift, lmms-eval and
    VLMEvalKit are read as these programs write them; --questions names the test set where they do
    not hold the questions.
    """
    from ..library import scores

    test, names = scores.test_set(questions), protocols or None
    found = scores.score(
        file, questions=test, train=train, shuffled=shuffled, protocols=names, dataset=dataset
    )
    change = against and scores.compare(against, found, questions=test, protocols=names)
    if as_json:
        whole = {**found.to_dict(), **({"against": change.to_dict()} if change else {})}
        click.echo(json_text(whole, 2))
        return
    show(repr(found))
    if change:
        show(f"\nAgainst {printable(against)}\n{change!r}")


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
@click.option("--before", type=FILE, help="Predictions to compare --after with.")
@click.option("--shuffled", type=FILE, help="Predictions of the same model with shuffled images.")
@_QUESTIONS
@click.option(
    "--train-questions",
    "train",
    type=FILE,
    help="Training questions for the baselines.  [default: as computed by the run]",
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
    lang: Literal["en", "zh"],
) -> None:
    """Write report.html and report.md: what changed, and whether the model uses the image.

    RUN is the folder of a run, output/Qwen2-VL-2B unless --after is given. The page is one file
    that opens from disk. In --images, an image is found by the longest matching end of its path.
    """
    if after is None and (before or shuffled or questions):
        raise click.UsageError("--before, --shuffled and --questions need --after")
    if after and run:
        raise click.UsageError("give RUN or --after, not both")
    if images and not is_folder(images):
        raise RunError(f"no folder {images}", hint="--images names the folder of the images")
    from ..library import runs

    if not after:
        run = run or Path("output/Qwen2-VL-2B")
    written = runs.report(
        run,
        after=after,
        before=before,
        shuffled=shuffled,
        questions=questions,
        train=train,
        dataset=dataset,
        images=images,
        output=output,
        lang=lang,
    )
    if gone := written.gone:
        console.warn(
            f"{console.counted(len(gone), 'case')} without a picture: the file is missing, e.g. "
            f"{gone[0]}",
            "if the images were moved: --images FOLDER",
        )
    console.say(f"the same results as text: {written.markdown}")
    click.echo(printable(written.html))
