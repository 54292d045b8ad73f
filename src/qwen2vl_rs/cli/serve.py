"""``serve``: a web page and an OpenAI-compatible API."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from ..library.early import require_model
from .common import FILE, checkpoint_option, device_option, needs_training
from .help import Command


@click.command(
    cls=Command,
    groups={
        "Model": "checkpoint base device",
        "Server": "host port token plain",
    },
    examples=[
        "output/demo",
        "output/demo --host 0.0.0.0 --port 8080",
    ],
)
@click.argument("model", type=FILE)
@checkpoint_option
@click.option("--base", type=FILE, help="Base model of a checkpoint.  [default: as in training]")
@device_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="0: any free port.",
)
@click.option(
    "--token",
    envvar="QWEN2VL_RS_TOKEN",
    show_envvar=True,
    help="Bearer token of the clients; required unless the host is this machine.",
)
@click.option(
    "--plain",
    is_flag=True,
    help="Chat answers hold only the model's text, without the note that earlier text is not used.",
)
def serve(
    model: Path,
    checkpoint: str | None,
    base: Path | None,
    device: str | None,
    token: str | None,
    **how: Any,
) -> None:
    """Serve a model: a web page and an OpenAI-compatible API.

    MODEL is a run folder, a checkpoint or a base model. The address is printed when the server is
    ready. Ctrl-C or SIGTERM stops it after the requests in progress.
    """
    if token is not None and not token.strip():
        raise click.UsageError("the token is empty")
    require_model(model, base)
    with needs_training(device):
        from ..serve.run import serve as run

    tell = partial(click.echo, file=sys.stdout)
    with needs_training():
        run(model, base, checkpoint=checkpoint, token=token, ready=tell, **how)
