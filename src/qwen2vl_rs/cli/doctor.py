"""``doctor``: this machine, and what a training would use on it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from .common import FILE, device_option, given_settings, json_text, training_inputs
from .help import Command


@click.command(
    cls=Command,
    groups={
        "Data": "data train_file test_file val val_fraction dataset images",
        "Training": "model adapter settings output device",
        "Output": "as_json",
    },
    examples=[
        "",
        "config.toml --set training.bf16=true",
        "--model Qwen/Qwen2-VL-2B-Instruct --train train.csv --test test.csv",
    ],
)
@click.argument("config", type=FILE, required=False)
@training_inputs
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def doctor(
    context: click.Context,
    /,
    config: Path | None,
    settings: tuple[str, ...],
    device: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Report on this machine and on what a training would use, with expected time and memory.

    CONFIG is that of train. Nothing is trained, written or downloaded. The report can be pasted
    into an issue: it has ~ for your home folder, and no secrets. Exit code 1: something prevents
    the training.
    """
    if options["data"] and options["train_file"]:
        raise click.UsageError("give --data, or --train and --test, not both")
    from ..diagnosis.diagnose import diagnose

    values = given_settings(options)
    if options["images"]:
        values["data.images"] = os.path.abspath(options["images"])
    report = diagnose(config, settings, values, device)
    click.echo(json_text(report.to_dict(), 2) if as_json else str(report))
    if not report.usable:
        context.exit(1)
