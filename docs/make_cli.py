"""Write docs/cli.md from the command line's own help; ``--check`` only compares."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from qwen2vl_rs.cli import cli

PAGE = Path(__file__).with_name("cli.md")

_HEAD = """\
# Commands

<!-- Written by `python docs/make_cli.py` from the help of the commands; changes here are lost. -->

Results go to stdout, everything else to stderr. Exit codes: 0 success, 1 an expected error (with a
hint), 2 wrong usage, 130 interrupted. With `QWEN2VL_RS_DEBUG=1` an error shows its traceback.
"""


def page() -> str:
    """Return the page."""
    top = click.Context(cli, info_name="qwen2vl-rs", **cli.context_settings)
    parts = [_HEAD, *_section(top)]
    for name in cli.list_commands(top):
        command = cli.get_command(top, name)
        if command is not None and not command.hidden:
            parts += _section(click.Context(command, info_name=name, parent=top))
    return "\n".join(parts)


def _section(context: click.Context) -> Iterator[str]:
    """Yield heading, usage, description, options and examples of one command."""
    command = context.command
    usage = context.get_usage().removeprefix("Usage: ")
    yield f"## {context.command_path}\n"
    yield f"```text\n{' '.join(usage.split())}\n```\n"
    yield inspect.cleandoc(command.help or "").replace("\b\n", "") + "\n"
    options = list(_options(context))
    if options:
        yield "\n".join(options) + "\n"
    if examples := getattr(command, "examples", ()):
        lines = (f"$ {context.command_path} {line}".rstrip() for line in examples)
        yield "```console\n" + "\n".join(lines) + "\n```\n"


def _options(context: click.Context) -> Iterator[str]:
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None or isinstance(parameter, click.Argument):
            continue  # the usage line names the arguments
        names, text = record
        if names == "-h, --help" and context.parent:
            continue  # listed once, at the top
        yield f"- `{names}`" + (f": {' '.join(text.split())}" if text else "")


def main(args: Sequence[str]) -> int:
    """Write or compare the page; return the exit code."""
    text = page()
    if list(args) != ["--check"]:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write(f"{PAGE} is out of date; run: python docs/make_cli.py\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
