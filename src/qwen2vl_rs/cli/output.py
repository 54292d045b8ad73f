"""Output of the command line: messages on stderr, results on stdout, and warnings of libraries."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import IO, Any

import click

from ..system.console import ROOT, is_terminal
from ..system.terminal import printable, printable_traceback


class _Stderr(logging.StreamHandler[Any]):
    """Writes to the current ``sys.stderr``."""

    stream = property(lambda self: sys.stderr, lambda self, _: None)


class _Said(logging.Formatter):
    """Formats our messages: a line, or a warning with its hint."""

    def format(self, record: logging.LogRecord) -> str:
        text, hint = getattr(record, "text", record.getMessage()), getattr(record, "hint", None)
        if record.levelno < logging.WARNING:
            return printable(text)
        return labelled("warning", "yellow", text, hint)


class _Line(logging.Formatter):
    """Formats log records of libraries as one line."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))


def labelled(kind: str, colour: str, text: object, hint: object = None) -> str:
    """``warning: …`` or ``error: …``, and ``hint: …`` on the next line."""
    lines = [(kind, colour, text), *([("hint", "cyan", hint)] if hint else [])]
    looked_at = is_looked_at(sys.stderr) and not os.environ.get("NO_COLOR")
    return "\n".join(
        f"{click.style(f'{word}:', fg=fg) if looked_at else f'{word}:'} {printable(text)}"
        for word, fg, text in lines
    )


def is_looked_at(stream: IO[str] | None) -> bool:
    """Whether a stream is a terminal with colours and cursor movement."""
    return is_terminal(stream) and os.environ.get("TERM") not in ("dumb", "unknown")


def talk(quiet: bool) -> None:
    """Set the log level: everything, or only warnings."""
    ROOT.setLevel(logging.WARNING if quiet else logging.INFO)


def set_up() -> None:
    """Print our messages, warnings of libraries and unexpected errors.

    For programs only: these settings apply to the whole process.
    """
    talk(quiet=False)
    if not any(isinstance(one, _Stderr) for one in ROOT.handlers):
        handler = _Stderr()
        handler.setFormatter(_Said())
        ROOT.addHandler(handler)
    sys.excepthook = _uncaught
    if logging.lastResort:
        logging.lastResort.setFormatter(_Line())
    warnings.formatwarning = _warning


def _uncaught(_kind: object, error: BaseException, _trace: object) -> None:
    sys.stderr.write(printable_traceback(error) + "\n")


_formatted = warnings.formatwarning


def _warning(message: Warning | str, *where: Any, **more: Any) -> str:
    return _formatted(printable(message), *where, **more)


def show(table: str) -> None:
    """Print a table; with colours on a terminal."""
    if not is_looked_at(sys.stdout):
        click.echo(table)
        return
    from rich.console import Console
    from rich.text import Text

    text = Text(table)
    for style, pattern in _COLOURS.items():
        text.highlight_regex(pattern, style)
    Console(highlight=False).print(text, soft_wrap=True)


_COLOURS = {  # headings and sums; differences, but not their intervals; row labels
    "bold": r"(?m)^(?: +n  .*|(?:AA|OA)  .*|\w+ \(.*\): [\d,]+ questions.*|After training|Change)$",
    "green": r"(?<!to )(?<=\s)\+(?!0\.0\b)[\d.,]+(?=  | points)|\(right\)",
    "red": r"(?<!to )(?<=\s)-(?!0\.0\b)[\d.,]+(?=  | points)|\(wrong\)",
    "cyan": r"(?m)^  (?:image|question|truth|before|after)(?=  )",
}
