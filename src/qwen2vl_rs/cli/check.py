"""``check`` and ``inspect``: look at the data before training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..system import console
from .common import FILE, interruptible, json_text, needs_training, same_command, whose_option
from .help import Command
from .output import show

_IMAGES = click.option("--images", type=FILE, help="Folder to which the images were moved.")
_SET = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="E.g. view.max_pixels=501760."
)


@click.command(
    cls=Command,
    groups={
        "Questions": "data_file train_file test_file val_file dataset images",
        "Model": "model settings",
        "Output": "as_json",
    },
    examples=[
        "",
        "RSVQA_LR",
        "--train train.csv --test test.csv --val val.csv",
        "output/demo --json > check.json",
    ],
)
@click.argument("data", type=FILE, required=False)
@click.option("--data", "data_file", type=FILE, help="The same as DATA.  [default: data_vl.json]")
@click.option("--train", "train_file", type=FILE, help="Training questions, instead of DATA.")
@click.option("--test", "test_file", type=FILE, help="Test questions, instead of DATA.")
@click.option("--val", "val_file", type=FILE, help="Validation questions, instead of DATA.")
@whose_option
@_IMAGES
@click.option(
    "--model",
    type=FILE,
    help="Base model, for lengths in tokens.  [default: Qwen/Qwen2-VL-2B-Instruct if it is there]",
)
@_SET
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def check(
    data: Path | None,
    data_file: Path | None,
    train_file: Path | None,
    test_file: Path | None,
    val_file: Path | None,
    dataset: str | None,
    images: Path | None,
    model: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Check questions and images before training: faults, leaks, what the text alone answers.

    DATA is a file with questions to split, the folder of a known data set, a run folder, or a TOML
    file with settings, as for train. Every image is decoded; what was found in intact ones is
    remembered in the cache folder of the user, and the next check is faster. Exit code 1 if there
    are errors.
    """
    if data and data_file:
        raise click.UsageError("give DATA or --data, not both")
    parts = {"train": train_file, "val": val_file, "test": test_file}
    whole = data or data_file
    if whole and any(parts.values()):
        raise click.UsageError("give DATA, or --train and --test, not both")
    from ..library import checks

    with needs_training(), interruptible(same_command("what was found in the images so far")):
        found = checks.checked(whole, parts, dataset, images, model, settings)
    if as_json:
        click.echo(json_text(found.to_dict(), 2))
    else:
        show(repr(found))
    errors, warnings = (found.report.number(verdict) for verdict in ("error", "warning"))
    console.say(f"{console.counted(errors, 'error')}, {console.counted(warnings, 'warning')}")
    if errors:
        raise click.exceptions.Exit(1)


@click.command(
    cls=Command,
    groups={
        "Question": "name dataset images",
        "Model": "model settings",
        "Output": "tree as_json",
    },
    examples=[
        "",
        "output/demo --id rsvqa_12 --tree",
        "data_vl.json --model demo/base --json",
    ],
)
@click.argument("data", type=FILE, required=False)
@click.option("--id", "name", help="Id of the question.  [default: the first training question]")
@whose_option
@_IMAGES
@click.option(
    "--model",
    type=FILE,
    help="Base model.  [default: that of the run, else Qwen/Qwen2-VL-2B-Instruct]",
)
@_SET
@click.option("--tree", is_flag=True, help="Show the tree of the questions in the same step.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def inspect(
    data: Path | None,
    name: str | None,
    dataset: str | None,
    images: Path | None,
    model: Path | None,
    settings: tuple[str, ...],
    tree: bool,
    as_json: bool,
) -> None:
    """Show every token of a training question: its position, and whether it carries loss.

    DATA is a file with questions (data_vl.json by default), the folder of a known data set, or a
    run folder. The tokens are those that the trainer lays out. The weights of the model are not
    loaded.
    """
    from ..library import checks
    from ..library.inspection_text import inspection_text

    with needs_training():
        found: Any = checks.inspected(data, name, dataset, images, model, settings)
    if as_json:
        click.echo(json_text(found.to_dict(), 2))
    else:
        show(inspection_text(found.inspected, tree))
