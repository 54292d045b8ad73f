"""Log limits: few and short lines, whatever clients send."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

LOGGERS = ("uvicorn.error", "asyncio", "python_multipart.multipart")
_CHARS = 300  # per line
_LINES = 20  # per logger and minute
_WINDOW = 60.0  # seconds
_NO_ROOM = "socket.accept() out of system resource"


class Bounded(logging.Filter):
    """Shortens lines, makes them printable, and limits their number per minute.

    The first line after omitted ones states how many were left out.

    Args:
        lines: maximum per minute.
        clock: time in seconds.
    """

    def __init__(self, lines: int = _LINES, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._lines, self._clock = lines, clock
        self._since, self._seen, self._left_out = clock(), 0, 0
        self._told: float | None = None  # when a lack of connections was last logged

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten a record; return whether to log it."""
        now = self._clock()
        if _NO_ROOM in record.getMessage():  # asyncio logs it per connection, with a traceback
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
        """Shorten the record of a lack of connections; return whether to log it."""
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
    """Limit the logs of the server's libraries."""
    with ExitStack() as stack:
        for logger in map(logging.getLogger, LOGGERS):
            logger.addFilter(bound := Bounded())
            stack.callback(logger.removeFilter, bound)
        yield
