"""``export``: adapters, merged models and data for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from ..system.terminal import printable
from .common import FILE, needs_training, whose_option
from .help import Command

_FORMATS = click.Choice(["llamafactory", "ms-swift", "trl", "llava", "imagefolder"])


@click.command(
    cls=Command,
    groups={
        "Model": "base_model merge base",
        "Data": "data dataset form old_form",
    },
    examples=[
        "output/demo -o adapter --base-model Qwen/Qwen2-VL-2B-Instruct",
        "output/demo -o merged --merge",
        "--data data_vl.json --format llamafactory -o for-llamafactory",
    ],
)
@click.argument("run", type=FILE, required=False)
@click.option("-o", "--output", type=FILE, required=True, help="A new folder.")
@click.option(
    "--base-model",
    metavar="NAME",
    help="Name of the base model on the hub.  [default: where load downloaded it from]",
)
@click.option("--merge", is_flag=True, help="Merge the adapter into the base model.")
@click.option(
    "--base", type=FILE, help="Folder of the base model to merge into.  [default: as in training]"
)
@click.option("--data", type=FILE, help="Export these questions with their images, not a model.")
@whose_option
@click.option("--format", "form", type=_FORMATS, help="With --data: the program that will read it.")
@click.option("--form", "old_form", type=_FORMATS, hidden=True)  # as it was called before
def export(
    run: Path | None,
    output: Path,
    base_model: str | None,
    merge: bool,
    base: Path | None,
    data: Path | None,
    dataset: str | None,
    form: str | None,
    old_form: str | None,
) -> None:
    """Export a run's adapter with its model card, a merged model, or data for other programs.

    RUN is output/Qwen2-VL-2B by default. The adapter loads in plain PEFT, the merged model in
    plain transformers and vLLM. With --data, RUN only gives the image settings and the instruction
    before each question.
    """
    if base and not merge:
        raise click.UsageError("--base goes with --merge")
    form = form or old_form
    if (data is None) != (form is None):
        raise click.UsageError("--data and --format go together")
    if dataset and not data:
        raise click.UsageError("--dataset goes with --data")
    if data and form:
        if merge or base_model:
            raise click.UsageError("--merge and --base-model are about a model, not --data")
        from ..config_file import load_config
        from ..datasets.export_formats import export_dataset

        view = load_config(run / "config.toml" if run else None).view
        export_dataset(data, form, output, view, dataset)
        click.echo(printable(output))
        return
    with needs_training():
        from ..library.runs import export as copy

        run = run or Path("output/Qwen2-VL-2B")
        copy(run, output, merge=merge, base=base, base_model=base_model)
    click.echo(printable(output))
