"""From a run to something others can use."""

from __future__ import annotations

from pathlib import Path

import click

from .common import FILE


@click.command()
@click.argument("run", type=FILE, default=Path("output/Qwen2-VL-2B"))
@click.option("-o", "--output", type=FILE, required=True, help="A new folder.")
@click.option(
    "--base-model", metavar="NAME",
    help="Name of the base on the hub.  [default: where load fetched it from]",
)  # fmt: skip
def export(run: Path, output: Path, base_model: str | None) -> None:
    """Copy a run's adapter into a new folder, with model card and data card.

    RUN is output/Qwen2-VL-2B by default. The adapter loads in plain PEFT.
    """
    from ..report.export import export as copy

    copy(run, output, base_model)
    click.echo(output)
