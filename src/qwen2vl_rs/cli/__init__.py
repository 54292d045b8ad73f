"""The front door: one command per stage. Parses, calls, prints; knows nothing else.

stdout carries results, stderr the conversation. Exit codes: 0 ok, 1 an expected failure (with a
hint), 2 wrong usage, 130 interrupted. ``QWEN2VL_RS_DEBUG=1`` shows tracebacks.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence

import click

from .. import __version__, console
from ..errors import Qwen2VLRSError
from .common import Commands
from .host import serve
from .judge import report, score
from .learn import compare, evaluate, train
from .make import generate
from .prepare import csv2json, data2csv, load
from .publish import export
from .scene import map_
from .tour import demo
from .use import ask


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version")
@click.option("-q", "--quiet", is_flag=True, help="Only results, warnings and errors.")
def cli(quiet: bool) -> None:
    """Teach Qwen2-VL to answer questions about satellite and aerial images.

    The five steps: load, data2csv, csv2json, train, compare. Then: eval, ask, map, serve,
    score, report, export. Without data of your own: generate; all of it at once: demo.
    """
    console.set_quiet(quiet)


# in the order of the work
COMMANDS = (
    load, data2csv, csv2json, train, compare, evaluate, ask, map_, serve, score, report,
    export, generate, demo,
)  # fmt: skip
for command in COMMANDS:
    cli.add_command(command)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    try:
        cli.main(args=args, prog_name="qwen2vl-rs", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except OSError as error:  # stdout cannot be written to
        click.echo(f"error: cannot print the result: {error.strerror}", err=True)
        return 1
    except SystemExit:  # click's answer to a closed pipe: `… | head` is no failure
        return 0
    except Qwen2VLRSError as error:
        if os.environ.get("QWEN2VL_RS_DEBUG"):
            traceback.print_exc()
        click.echo(f"error: {error.message}", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)
        return 1
    return 0
