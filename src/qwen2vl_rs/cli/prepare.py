"""Before training: the model, the data."""

from __future__ import annotations

from pathlib import Path

import click

from .. import console
from .common import FILE, option


@click.command()
@click.argument("repo", default="Qwen/Qwen2-VL-2B-Instruct")
@click.option(
    "--hub", type=click.Choice(["modelscope", "hf"]), default="modelscope", show_default=True,
    help="Where to fetch from.",
)  # fmt: skip
@click.option("--folder", type=FILE, help="Where to put it.  [default: the name of the model]")
@click.option("--revision", help="Branch, tag or commit.  [default: the hub's own]")
@click.option("--verify", is_flag=True, help="Check every file of a complete folder again.")
def load(repo: str, hub: str, folder: Path | None, revision: str | None, verify: bool) -> None:
    """Fetch a base model; goes on where it was interrupted.

    Every file is checked against the hub's own checksum. A complete folder is left alone, also
    without a network.
    """
    from ..model.hub import load as fetch

    fetch(repo, hub=hub, folder=folder or Path(repo), revision=revision, verify=verify)  # type: ignore[arg-type]
    console.say("next: qwen2vl-rs data2csv")


@click.command()
@click.option("--questions", type=FILE, help="[default: rsvqa_questions.json]")
@click.option("--answers", type=FILE, help="[default: the file beside the questions]")
@click.option("--images", type=FILE, help="Image folder.  [default: beside the questions]")
@click.option("--folder", type=FILE, help="A folder in the official layout, instead of the three.")
@click.option("--split", help="Split of --folder, e.g. train, val, test.")
@click.option(
    "-o", "--output", type=FILE, default=Path("rsvqa-dataset.csv"), show_default=True,
    help="The table.",
)  # fmt: skip
@click.option("--type", "with_type", is_flag=True, help="Also write the question type.")
def data2csv(
    questions: Path | None,
    answers: Path | None,
    images: Path | None,
    folder: Path | None,
    split: str | None,
    output: Path,
    with_type: bool,
) -> None:
    """Join RSVQA's questions, answers and images into a table.

    Reads every official file of RSVQA-LR, -HR and xBEN, by id; says what is left out and why.
    """
    from ..data import rsvqa, sources

    if folder:
        if questions or answers:
            raise click.UsageError("give --folder, or --questions and --answers, not both")
        files = rsvqa.find_split(folder, split)
        questions, answers, images = files.questions, files.answers, images or files.images
    elif split:
        raise click.UsageError("--split needs --folder")
    else:
        questions = questions or Path("rsvqa_questions.json")
        answers = answers or rsvqa.answers_beside(questions)
        images = images or rsvqa.images_beside(questions)
    sources.data2csv(questions, answers, images, output, with_type)
    console.say(f"next: qwen2vl-rs csv2json{option('--input', output, 'rsvqa-dataset.csv')}")


@click.command()
@click.option(
    "-i", "--input", "table", type=FILE, default=Path("rsvqa-dataset.csv"), show_default=True,
    help="The table.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=FILE, default=Path("data_vl.json"), show_default=True,
    help="The conversations.",
)  # fmt: skip
def csv2json(table: Path, output: Path) -> None:
    """Turn the table into conversations."""
    from ..data import sources

    sources.csv2json(table, output)
    console.say(f"next: qwen2vl-rs train{option('--data', output, 'data_vl.json')}")
