"""What requests can make the server write: few and short lines, whatever they hold."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

LOGGERS = ("uvicorn.error", "asyncio", "python_multipart.multipart")
_CHARS = 300  # of a line
_LINES = 20  # of a logger in a minute
_WINDOW = 60.0  # seconds
_NO_ROOM = "socket.accept() out of system resource"


class Bounded(logging.Filter):
    """Shortens lines, makes them printable, and lets only so many through in a minute.

    The first line after some were left out says how many.

    Args:
        lines: most in a minute.
        clock: seconds that pass.
    """

    def __init__(self, lines: int = _LINES, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._lines, self._clock = lines, clock
        self._since, self._seen, self._left_out = clock(), 0, 0
        self._told: float | None = None  # when, that connections cannot be accepted

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is written; shortens it."""
        now = self._clock()
        if _NO_ROOM in record.getMessage():  # asyncio says so at every connection, and with a trace
            return self._tell_once(record, now)
        if now - self._since >= _WINDOW:
            self._since, self._seen = now, 0
        self._seen += 1
        if self._seen > self._lines:
            self._left_out += 1
            return False
        text = "".join(c if c.isprintable() else " " for c in record.getMessage()[: _CHARS + 1])
        if len(text) > _CHARS:
            text = text[:_CHARS] + "…"
        if self._left_out:
            text += f" ({self._left_out:,} lines before this were left out)"
        record.msg, record.args, self._left_out = text, (), 0
        return True

    def _tell_once(self, record: logging.LogRecord, now: float) -> bool:
        """No connection can be accepted: whether that is written, in a line."""
        if self._told is not None and now - self._told < _WINDOW:
            return False
        self._told = now
        why = record.exc_info[1] if record.exc_info else None
        said = getattr(why, "strerror", None) or "out of system resources"
        record.msg = f"no new connection can be accepted: {said}; allow more: ulimit -n 4096"
        record.args, record.exc_info, record.exc_text = (), None, None
        return True


@contextmanager
def bound_logs() -> Iterator[None]:
    """Bound what the libraries below the server write."""
    with ExitStack() as stack:
        for logger in map(logging.getLogger, LOGGERS):
            logger.addFilter(bound := Bounded())
            stack.callback(logger.removeFilter, bound)
        yield
