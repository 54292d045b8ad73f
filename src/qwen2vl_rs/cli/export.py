"""``export``: from a run to something others can use."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from ..system.terminal import shown
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
    help="Name of the base on the hub.  [default: where load fetched it from]",
)
@click.option("--merge", is_flag=True, help="Write the base with the adapter merged into it.")
@click.option(
    "--base", type=FILE, help="Folder of the base to merge into.  [default: where it was]"
)
@click.option("--data", type=FILE, help="Write these questions and their images, not a model.")
@whose_option
@click.option("--format", "form", type=_FORMATS, help="Of --data: the program that is to read it.")
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
    """Copy a run's adapter with its cards into a folder, or data for others.

    RUN is output/Qwen2-VL-2B by default. The adapter loads in plain PEFT, the merged model in
    plain transformers and vLLM. With --data, RUN only says how its model was shown the images
    and which instruction stands before a question.
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
        from ..config import load_config
        from ..datasets.export_formats import export_dataset

        view = load_config(run / "config.toml" if run else None).view
        export_dataset(data, form, output, view, dataset)
        click.echo(shown(output))
        return
    from ..reporting.export import export as copy

    write = None
    if merge:
        with needs_training():
            from ..models.merge import merge as into
        write = partial(into, base=base)
    copy(run or Path("output/Qwen2-VL-2B"), output, base_model, write)
    click.echo(shown(output))
