"""The command line: one command per stage; parses arguments, calls the library, prints.

Results go to stdout, messages to stderr. Exit codes: 0 success, 1 an expected error (with a hint),
2 a usage error, 130 interrupted by Ctrl-C, 128 + n by signal n. ``QWEN2VL_RS_DEBUG=1`` shows
tracebacks.
"""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Sequence

import click

from ..errors import Qwen2VLRSError
from ..system.calls import commands
from ..system.install import missing_module
from ..system.oserrors import explain_os_error, folder_is_gone, library_os_error, no_thread
from ..system.terminal import printable, printable_lines, printable_traceback
from ..version import VERSION
from .ask import ask
from .check import check, inspect
from .common import Stopped
from .demo import demo
from .doctor import doctor
from .export import export
from .generate import generate
from .help import Commands
from .map import map_
from .output import labelled, set_up, talk
from .prepare import csv2json, data2csv, fetch, load
from .score import report, score
from .serve import serve
from .train import compare, evaluate, train


@click.group(
    cls=Commands,
    titles={
        "The five steps": "load data2csv csv2json train compare",
        "Before training": "doctor fetch check inspect",
        "Use a model": "eval ask map serve export",
        "Scores": "score report",
        "Without data of your own": "generate demo",
    },
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(VERSION, "-V", "--version")
@click.option("-q", "--quiet", is_flag=True, help="Only results, warnings and errors.")
def cli(quiet: bool) -> None:
    """Teach Qwen2-VL to answer questions about satellite and aerial images.

    Each command shows its options and examples with --help.
    """
    talk(quiet)


# in the order of the work
COMMANDS = (
    load,
    data2csv,
    csv2json,
    train,
    compare,
    doctor,
    fetch,
    check,
    inspect,
    evaluate,
    ask,
    map_,
    serve,
    export,
    score,
    report,
    generate,
    demo,
)
for command in COMMANDS:
    cli.add_command(command)


def _setting(option: str) -> str:
    """Return how a setting is given that was typed as an option; empty if there is none."""
    from ..config import setting_names
    from ..foreign_settings import advice

    name = option.lstrip("-").replace("-", "_")
    own = [place for place in setting_names() if place.rpartition(".")[2] == name.lower()]
    if own:
        return f" It is a setting: --set {own[0]}=VALUE"
    return f" As a setting: {found}; --set KEY=VALUE" if (found := advice(name)) else ""


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    set_up()
    try:
        with commands():
            # click returns the code of a command that ends with one
            code = cli.main(args=args, prog_name="qwen2vl-rs", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.NoSuchOption as error:
        hint = _setting(error.option_name)
        others = None if hint else error.possibilities
        click.NoSuchOption(error.option_name, error.message + hint, others, error.ctx).show()
        return 2
    except click.ClickException as error:
        vars(error)["message"] = printable(error.message)  # the lines around it are click's own
        error.show()
        return 2
    except (click.Abort, KeyboardInterrupt) as error:
        return _interrupted(error.__cause__ or error)
    except (Exception, SystemExit) as error:
        found = _expected(error)
        if found is None:
            raise
        if found is not error:
            found.__cause__ = error  # for QWEN2VL_RS_DEBUG
        return _failed(found)
    return code if isinstance(code, int) else 0  # of `Context.exit`


def _expected(error: BaseException) -> Qwen2VLRSError | None:
    """The error to show to the user; None for a bug."""
    if isinstance(error, SystemExit):  # click's answer to a broken pipe, which is not stdout
        context = error.__context__
        return explain_os_error(context) if isinstance(context, OSError) else None
    if isinstance(error, Qwen2VLRSError):
        return error
    if isinstance(error, io.UnsupportedOperation):
        return None  # an OSError, and all the same a bug
    if isinstance(error, ModuleNotFoundError):
        return missing_module(error)
    if isinstance(error, RuntimeError) and (found := no_thread(error)):
        return found
    told = error if isinstance(error, OSError) else library_os_error(error)
    return explain_os_error(told) if told else None


def _failed(error: Qwen2VLRSError) -> int:
    """Print an expected error; returns the exit code."""
    if os.environ.get("QWEN2VL_RS_DEBUG"):
        click.echo(printable_traceback(error), err=True)
    hint = error.hint
    if folder_is_gone():
        hint = "the current folder was removed or moved: change to an existing one (cd)"
    click.echo(labelled("error", "red", error.message, hint), err=True)
    return 1


def _interrupted(error: BaseException) -> int:
    """Print what is kept and how to resume; returns the exit code."""
    number = error.number if isinstance(error, Stopped) else signal.SIGINT
    click.echo(printable_lines(["interrupted", *getattr(error, "__notes__", ())]), err=True)
    return 128 + number
