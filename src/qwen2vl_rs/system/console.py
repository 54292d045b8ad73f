"""User messages through `logging`, and progress bars.

Nothing here prints. Messages are logged under the name of the calling module. The command line has
a handler (`cli.output`); library users configure `logging`, which shows only warnings by default.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from importlib.util import find_spec
from typing import IO, TYPE_CHECKING, Self

from .terminal import printable

if TYPE_CHECKING:
    from rich import progress

ROOT = logging.getLogger("qwen2vl_rs")
_mute = False  # another process reports
_bar: Progress | None = None  # the bar that is on the terminal
_logged_keys: set[str] = set()  # keys of `say_once` and `warn_once`
_LOST = (OSError, ValueError)  # a terminal that is gone or closed must not end the work
_WAIT = {True: (2.0, 0.2), False: (10.0, 30.0)}  # seconds to the first line, then between lines


def mute() -> None:
    """Suppress all messages of this process, warnings included: another process reports."""
    global _mute
    _mute = True


def say(text: str = "") -> None:
    """Log a message."""
    _log(_calling(), logging.INFO, text)


def warn(text: str, hint: str | None = None) -> None:
    """Log a warning with a hint; the record has both as ``text`` and ``hint``."""
    _log(_calling(), logging.WARNING, text, hint)


def say_once(key: str, text: str) -> None:
    """Log a message once per key and process."""
    _log(_calling(), logging.INFO, text, key=key)


def warn_once(key: str, text: str) -> None:
    """Log a warning once per key and process."""
    _log(_calling(), logging.WARNING, text, key=key)


def _calling() -> logging.Logger:
    """Return the logger of the module that called this one."""
    name = str(sys._getframe(2).f_globals.get("__name__"))
    return logging.getLogger(name) if name.startswith(f"{ROOT.name}.") else ROOT


def _log(
    logger: logging.Logger, level: int, text: str, hint: str | None = None, key: str = ""
) -> None:
    if _mute or key in _logged_keys or not logger.isEnabledFor(level):
        return
    _logged_keys.update([key] if key else [])
    _hide_bar()
    line = printable(text) + (f" (hint: {printable(hint)})" if hint else "")
    with contextlib.suppress(*_LOST):  # logging reports handler errors on stderr
        logger.log(level, "%s", line, extra={"text": text, "hint": hint}, stacklevel=3)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 image``, ``2,015 images``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def clock(seconds: float) -> str:
    """Format seconds: ``75`` → ``1:15``; ``3675`` → ``1:01:15``."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Progress:
    """Progress with rate and remaining time; silent for work of under two seconds.

    A bar in a terminal or notebook. Elsewhere (log file, batch job) a line is logged every 30
    seconds. There is no bar if the level of `ROOT` is above INFO.

    Args:
        what: name of the work, e.g. ``training``.
        total: number of units, None if unknown.
        unit: plural noun of the units, e.g. ``questions``.
        done: units finished before (resumed job); they do not count for the rate.
    """

    def __init__(self, what: str, total: int | None, unit: str, done: int = 0) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = self._before = done
        self._start = self._shown = time.monotonic()
        self._logger = _calling()
        self._bar = _rich_bar(what)
        self._drawn: int | None = None  # units done when the line was last drawn

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawn not in (None, self.done):
            self._draw("")
        if _bar is self:
            _hide_bar(keep=True)

    def advance(self, n: int = 1, note: str = "") -> None:
        """Add ``n`` finished units; ``note`` (e.g. the loss) is shown at the end of the line."""
        self.done += n
        now = time.monotonic()
        wait = _WAIT[self._bar is not None][self._drawn is not None]
        if now - self._shown >= wait:
            self._shown = now
            self._draw(note)

    def _draw(self, note: str) -> None:
        if self._bar is None:
            _log(self._logger, logging.INFO, f"{self.what}: {self._line(note)}")
        elif not _mute and ROOT.level <= logging.INFO > ROOT.manager.disable:
            self._draw_bar(self._bar, self._line(note))
        self._drawn = self.done

    def _line(self, note: str) -> str:
        elapsed = time.monotonic() - self._start
        rate = (self.done - self._before) / elapsed if elapsed > 0 else 0.0
        line = f"{self.done:,}"
        if self.total:
            line += f" of {self.total:,}"
        line += f" {self.unit}, {rate:,.1f}/s, {clock(elapsed)}"
        if self.total and rate > 0 and self.done < self.total:
            line += f", {clock((self.total - self.done) / rate)} left"
        return f"{line}, {note}" if note else line

    def _draw_bar(self, bar: progress.Progress, line: str) -> None:
        global _bar
        if _bar is not self:
            _hide_bar()
        with contextlib.suppress(*_LOST):
            bar.update(
                bar.task_ids[0], total=self.total or None, completed=self.done, line=printable(line)
            )
            bar.live.transient = False
            bar.start() if _bar is not self else bar.refresh()
            _bar = self


def _rich_bar(what: str) -> progress.Progress | None:
    """Return a bar, not yet shown; None if there is no terminal or notebook."""
    notebook = "ipykernel" in sys.modules and find_spec("ipywidgets")  # used by rich
    if not notebook and not is_terminal(sys.stderr):
        return None
    from rich import console, progress

    screen = console.Console(file=sys.stderr)
    if not screen.is_interactive and not screen.is_jupyter:
        return None
    bar = progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(20),
        progress.TextColumn("{task.fields[line]}", markup=False),
        console=screen,
        auto_refresh=False,
        redirect_stdout=False,  # stdout is data
        redirect_stderr=False,
    )
    bar.add_task(printable(what), line="")
    return bar


def _hide_bar(keep: bool = False) -> None:
    """Stop the visible bar, so that text starts on a new line."""
    global _bar
    if _bar is not None and _bar._bar is not None:
        drawn, _bar = _bar._bar, None
        with contextlib.suppress(*_LOST):
            drawn.live.transient = not keep and not drawn.console.is_jupyter
            drawn.stop()


def is_terminal(stream: IO[str] | None) -> bool:
    """Whether a stream exists, is open, and is a terminal."""
    try:
        return bool(stream and stream.isatty())
    except _LOST:
        return False
