"""``load``, ``fetch``, ``data2csv`` and ``csv2json``: base model and data."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import DataError
from ..system import console
from .common import FILE, DatasetParam, interruptible, option, same_command, whose_option
from .help import Command

if TYPE_CHECKING:
    from ..hub.fetch_data import FetchedData


@click.command(
    cls=Command,
    examples=[
        "",
        "Qwen/Qwen2.5-VL-3B-Instruct --hub hf",
    ],
)
@click.argument("repo", default="Qwen/Qwen2-VL-2B-Instruct")
@click.option(
    "--hub",
    type=click.Choice(["modelscope", "hf"]),
    default="modelscope",
    show_default=True,
    help="Hub to download from.",
)
@click.option("--folder", type=FILE, help="Target folder.  [default: the name of the model]")
@click.option("--revision", help="Branch, tag or commit.  [default: the hub's default]")
@click.option("--verify", is_flag=True, help="Verify every file of a complete folder again.")
def load(repo: str, hub: str, folder: Path | None, revision: str | None, verify: bool) -> None:
    """Download a base model; the same command resumes.

    Every file is verified against the hub's checksum. A complete folder is left as it is, also
    without a network; a folder copied from elsewhere is verified if a hub can be reached. Without
    any hub: demo writes a small base model, demo/base.
    """
    from ..hub.fetch import load as fetch

    place = folder or Path(repo)
    with interruptible(same_command(f"the downloaded files, in {place}")):
        fetch(repo, hub=hub, folder=place, revision=revision, verify=verify)  # type: ignore[arg-type]
    console.say("next: qwen2vl-rs data2csv")


@click.command(
    cls=Command,
    examples=[
        "LR",
        "HR -o data/hr --split test_phili",
        "xBEN --only questions",
    ],
)
@click.argument("name", type=DatasetParam(), metavar="NAME")
@click.option("-o", "--output", type=FILE, help="Target folder.  [default: e.g. RSVQA_LR]")
@click.option(
    "--split",
    "splits",
    multiple=True,
    metavar="SPLIT",
    help="Split, e.g. train; all: the lists of the whole data set.  [default: all splits]",
)
@click.option(
    "--only",
    type=click.Choice(["questions", "images"]),
    help="questions: the lists of questions, answers and images; images: the image files.",
)
@click.option(
    "--endpoint", metavar="URL", help="Mirror of Zenodo.  [default: ZENODO_ENDPOINT, else Zenodo]"
)
def fetch(
    name: str, output: Path | None, splits: tuple[str, ...], only: Any, endpoint: str | None
) -> None:
    """Download RSVQA-LR, -HR or xBEN from Zenodo; the same command resumes.

    NAME is LR, HR or xBEN. Every file is verified against Zenodo's checksum; images are extracted,
    and their archive is removed. A complete folder is left as it is, also without a network. Files
    that you have downloaded into the folder yourself are verified and kept.
    """
    from ..hub.fetch_data import default_folder, fetch_data, find_data_set

    place = output or default_folder(find_data_set(name))
    with interruptible(same_command(f"the downloaded files, in {place}")):
        done = fetch_data(name, place, splits=splits, only=only, endpoint=endpoint)
    console.say(f"next: qwen2vl-rs {_after_fetch(done)}")


def _after_fetch(done: FetchedData) -> str:
    """The next command for a downloaded data set."""
    folder, splits = shlex.quote(str(done.folder)), list(done.questions)
    if not splits:
        return f"fetch {done.name} -o {folder} --only questions"
    if done.images is None:
        return f"fetch {done.name} -o {folder} --only images"
    if "train" in splits and "test" in splits:
        train, test = (shlex.quote(str(done.questions[split])) for split in ("train", "test"))
        return f"train --train {train} --test {test}"
    return f"data2csv --folder {folder} --split {splits[0]}"


@click.command(
    cls=Command,
    groups={
        "Input": "questions answers images folder split dataset",
        "Output": "output with_type",
    },
    examples=[
        "",
        "--folder RSVQA_LR --split train -o train.csv",
        "--questions VRSBench_EVAL_vqa.json -o vrsbench.csv",
    ],
)
@click.option("--questions", type=FILE, help="[default: rsvqa_questions.json]")
@click.option("--answers", type=FILE, help="[default: the file beside the questions]")
@click.option("--images", type=FILE, help="Image folder.  [default: beside the questions]")
@click.option("--folder", type=FILE, help="Folder in the official layout, instead of these three.")
@click.option("--split", help="Split of --folder, e.g. train, val, test.")
@click.option(
    "-o",
    "--output",
    type=FILE,
    help="The table.  [default: rsvqa-dataset.csv; for val and test splits "
    "rsvqa-dataset-SPLIT.csv]",
)
@click.option("--type", "with_type", is_flag=True, help="Also write the question type.")
@whose_option
def data2csv(
    questions: Path | None,
    answers: Path | None,
    images: Path | None,
    folder: Path | None,
    split: str | None,
    output: Path | None,
    with_type: bool,
    dataset: str | None,
) -> None:
    """Join questions, answers and images into a table.

    Read the official files of RSVQA-LR, -HR and xBEN, joined by id, and the published files of
    other data sets (docs/data.md), with their question types. Report what is skipped and why.
    """
    from ..datasets import reading as sources
    from ..datasets import rsvqa
    from ..datasets.file_forms import is_published
    from ..datasets.file_opening import require
    from ..datasets.image_paths import warn_of_missing
    from ..datasets.table_notes import is_held_out, official_note, published_note

    if folder and (questions or answers):
        raise click.UsageError("give --folder, or --questions and --answers, not both")
    if split and not folder:
        raise click.UsageError("--split needs --folder")
    if folder:
        questions, answers, images = _in_folder(folder, split, images, dataset)
    questions = questions or Path("rsvqa_questions.json")
    if not questions.is_file():
        require(questions, "questions")
    if is_published(questions, dataset):
        if answers:
            raise click.UsageError("--answers is for RSVQA: this file holds its own answers")
        own = sources.first_sample(questions, dataset).distinct("dataset")
        note = published_note(questions, own)
    else:
        answers = answers or rsvqa.answers_beside(questions)
        images = images or rsvqa.images_beside(questions)
        note = official_note(questions, images)
    held_out = is_held_out(split := note.split)
    output = output or Path(f"rsvqa-dataset-{split}.csv" if held_out else "rsvqa-dataset.csv")
    if answers and images:  # RSVQA's
        sources.data2csv(questions, answers, images, output, with_type, dataset)
    else:
        done = sources.published2csv(questions, output, images, dataset)
        warn_of_missing(done.absent, done.images, output)
    follow = option("--input", output, "rsvqa-dataset.csv")
    if held_out:  # what is trained on has the default
        follow += option("--output", output.with_suffix(".json"), "")
    console.say(f"next: qwen2vl-rs csv2json{follow}")


def _in_folder(
    folder: Path, split: str | None, images: Path | None, dataset: str | None
) -> tuple[Path, Path | None, Path | None]:
    """The question file in a folder, and for RSVQA also answers and images."""
    from ..datasets import rsvqa
    from ..datasets.reading import published_in

    try:
        files = rsvqa.find_split(folder, split, images)
        return files.questions, files.answers, files.images
    except DataError:
        if (found := published_in(folder, split, dataset)) is None:
            raise
        return found, None, images


class Columns(click.ParamType[dict[str, str]]):
    """Column names, such as ``image=picture,question=q``."""

    name = "columns"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, str]:
        """Our names → names of the columns."""
        from ..datasets.record_forms import COLUMNS

        if isinstance(value, dict):
            return value
        found = dict(part.partition("=")[::2] for part in value.split(","))
        for key, name in found.items():
            if key.strip() not in COLUMNS or not name.strip():
                known = ", ".join(COLUMNS)
                self.fail(f"{key!r} is not NAME=COLUMN with NAME one of {known}", param, ctx)
        return {key.strip(): name.strip() for key, name in found.items()}


@click.command(
    cls=Command,
    groups={
        "Input": "table images dataset columns",
        "Output": "output",
    },
    examples=[
        "",
        "-i train.csv -o train.json",
        "-i table.parquet --columns image=picture,question=q,answer=a",
    ],
)
@click.option(
    "-i",
    "--input",
    "table",
    type=FILE,
    default=Path("rsvqa-dataset.csv"),
    show_default=True,
    help="Table or conversations to read.",
)
@click.option(
    "-o",
    "--output",
    type=FILE,
    default=Path("data_vl.json"),
    show_default=True,
    help="Conversations to write.",
)
@click.option("--images", type=FILE, help="Folder to which the images were moved.")
@whose_option
@click.option(
    "--columns",
    type=Columns(),
    multiple=True,
    metavar="NAME=COLUMN,…",
    help="Names of the columns for image, question, answer, type and id.",
)
def csv2json(
    table: Path,
    output: Path,
    images: Path | None,
    dataset: str | None,
    columns: tuple[dict[str, str], ...],
) -> None:
    """Convert a table, or the conversations of another program, into conversations.

    A table has the columns image_path, question and answer, and optionally type. Formats: CSV or
    TSV in UTF-8, Parquet, JSON Lines, and .xlsx if openpyxl is installed. Images inside a Parquet
    file are written into a folder beside the output. Conversations: LLaMA-Factory, ms-swift, LLaVA
    and TRL. Published files of other data sets are read too. Relative paths are relative to the
    folder of the file, else to the current folder.
    """
    from ..datasets import reading as sources
    from ..datasets.image_paths import warn_of_missing
    from ..datasets.table_notes import is_held_out

    named = {key: name for one in columns for key, name in one.items()}
    done = sources.csv2json(table, output, images, dataset, named)
    held_out = is_held_out(done.split)
    warn_of_missing(done.absent, done.images, output)
    console.say(f"next: qwen2vl-rs {_after(output, held_out)}")


def _after(output: Path, held_out: bool) -> str:
    """The next command for these conversations."""
    default = Path("data_vl.json")
    if not held_out:
        return f"train{option('--data', output, str(default))}"
    test = option("--test", output, "")
    if output == default or not default.is_file():
        return f"eval MODEL{test}"
    return f"train{option('--train', default, '')}{test}"
