"""What is said to the person at the terminal: all of it on stderr, so that stdout is data."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Self

from .terminal import shown, shown_lines

_quiet = False
_mute = False  # not even warnings
_bar: Progress | None = None  # drawn on a terminal and not finished
_WAIT = {True: (2.0, 0.2), False: (10.0, 30.0)}  # seconds to the first line, then between lines


def set_quiet(quiet: bool, *, also_warnings: bool = False) -> None:
    """Silence `say` and progress bars; errors are still printed.

    Args:
        quiet: whether to be silent.
        also_warnings: whether warnings are kept back too (another process prints them).
    """
    global _quiet, _mute
    _quiet, _mute = quiet, also_warnings


def say(text: str = "") -> None:
    """Print a line of conversation."""
    if not _quiet:
        _end_bar()
        print(shown(text), file=sys.stderr, flush=True)  # noqa: T201 - the one place that prints


def warn(text: str, hint: str | None = None) -> None:
    """Print a warning, and what to do about it, also when quiet."""
    if not _mute:
        _end_bar()
        lines = [f"warning: {text}", *([f"hint: {hint}"] if hint else [])]
        print(shown_lines(lines), file=sys.stderr, flush=True)  # noqa: T201


_said: set[str] = set()  # by `say_once` and `warn_once`


def say_once(key: str, text: str) -> None:
    """Print a line of conversation, and none by the same key again in this process."""
    if key not in _said:
        _said.add(key)
        say(text)


def warn_once(key: str, text: str) -> None:
    """Print a warning, and none by the same key again in this process."""
    if key not in _said:
        _said.add(key)
        warn(text)


def _end_bar() -> None:
    """Leave the line of a progress bar that is being drawn, so that text starts on its own."""
    global _bar
    if _bar is not None:
        _bar = None
        print(file=sys.stderr, flush=True)  # noqa: T201 - the one place that prints


def counted(number: int, noun: str) -> str:
    """``1 image``, ``2,015 images``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def clock(seconds: float) -> str:
    """``75`` → ``1:15``; ``3675`` → ``1:01:15``."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Progress:
    """A progress line with rate and time left; silent for work of under two seconds.

    On a terminal the line is redrawn in place; elsewhere (a log file, a batch job) a new line
    is printed every 30 seconds.

    Args:
        what: the work, e.g. ``training``.
        total: number of units, None where unknown.
        unit: plural noun of one unit, e.g. ``questions``.
        done: units finished before (a resumed job): they do not count for the rate.
    """

    def __init__(self, what: str, total: int | None, unit: str, done: int = 0) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = self._before = done
        self._start = self._shown = time.monotonic()
        self._tty = sys.stderr.isatty()
        self._drawn: int | None = None  # units done when the line was last drawn

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawn not in (None, self.done):
            self._draw("")
        _end_bar()

    def advance(self, n: int = 1, note: str = "") -> None:
        """Count ``n`` more units as done; ``note`` (e.g. the loss) is shown behind the line."""
        self.done += n
        now = time.monotonic()
        wait = _WAIT[self._tty][self._drawn is not None]
        if now - self._shown >= wait:
            self._shown = now
            self._draw(note)

    def _draw(self, note: str) -> None:
        if _quiet:
            return
        elapsed = time.monotonic() - self._start
        rate = (self.done - self._before) / elapsed if elapsed > 0 else 0.0
        line = f"{self.what}: {self.done:,}"
        if self.total:
            line += f" of {self.total:,}"
        line += f" {self.unit}, {rate:,.1f}/s, {clock(elapsed)}"
        if self.total and rate > 0 and self.done < self.total:
            line += f", {clock((self.total - self.done) / rate)} left"
        if note:
            line += f", {note}"
        line = shown(line)
        if self._tty:
            line = line[: shutil.get_terminal_size().columns - 1]  # a wrapped line stays behind
        end, start = ("", "\r\x1b[K") if self._tty else ("\n", "")
        print(f"{start}{line}", end=end, file=sys.stderr, flush=True)  # noqa: T201
        self._drawn = self.done
        global _bar
        _bar = self if self._tty else None
