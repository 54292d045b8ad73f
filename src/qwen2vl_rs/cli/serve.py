"""``serve``: a model for others, as an API and a page."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from ..library.early import require_model
from .common import FILE, device_option, needs_training
from .help import Command


@click.command(
    cls=Command,
    groups={
        "Model": "base device",
        "Server": "host port token plain",
    },
    examples=[
        "output/demo",
        "output/demo --host 0.0.0.0 --port 8080",
    ],
)
@click.argument("model", type=FILE)
@click.option("--base", type=FILE, help="Base of a checkpoint.  [default: where it was]")
@device_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="0 takes a free one.",
)
@click.option(
    "--token",
    envvar="QWEN2VL_RS_TOKEN",
    show_envvar=True,
    help="What clients have to send; needed beyond this machine.",
)
@click.option(
    "--plain",
    is_flag=True,
    help="Chat answers are the model's words alone: none says that earlier text is not used.",
)
def serve(
    model: Path,
    base: Path | None,
    device: str | None,
    token: str | None,
    **how: Any,
) -> None:
    """Serve a model: a page to ask from, and OpenAI's API.

    MODEL is a run folder, a checkpoint or a base. The address is printed once it can be used;
    Ctrl-C or SIGTERM ends it after what is being answered.
    """
    if token is not None and not token.strip():
        raise click.UsageError("the token is empty")
    require_model(model, base)
    with needs_training(device):
        from ..serve.run import serve as run

    tell = partial(click.echo, file=sys.stdout)  # before libraries are kept off it
    with needs_training():
        run(model, base, token=token, ready=tell, **how)
