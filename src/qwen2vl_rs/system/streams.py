"""Standard streams that survive broken pipes, full disks and closed terminals.

Messages on stderr that cannot be written are dropped. A failed write to stdout is reported when the
work is done, not in the middle of it; a reader that has closed the pipe (``… | head``) is not an
error.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import Any

_NAMES = ("stdin", "stdout", "stderr")  # by their file descriptors
_GONE = {errno.EPIPE, errno.EBADF}  # the reader has closed the pipe


class _Stream(io.FileIO):
    """A file descriptor that drops what cannot be written.

    Attributes:
        failure: the first write error.
    """

    def __init__(self, descriptor: int, once: bool) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.failure: OSError | None = None
        self._once = once

    def write(self, data: Any, /) -> int:
        """Write or drop; after a failure stdout writes no more, as the result has a gap."""
        size = memoryview(data).nbytes
        if self.failure and self._once:
            return size
        try:
            while (written := super().write(data)) is None:  # a non-blocking pipe is full
                select.select([], [self.fileno()], [])
        except OSError as error:
            self.failure = self.failure or error
            return size
        return written


_out: _Stream | None = None


def guard() -> None:
    """Replace the standard streams by ones that drop failed writes; open missing ones as null.

    Otherwise a file opened while a standard descriptor is closed would get its number, and the
    output of libraries.
    """
    global _out
    for descriptor, name in enumerate(_NAMES):
        try:
            os.fstat(descriptor)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
            os.set_inheritable(descriptor, True)
        if getattr(sys, name) is None:
            mode = "w" if descriptor else "r"
            stream = open(descriptor, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
    for descriptor, name in enumerate(_NAMES[1:], start=1):
        stream = getattr(sys, name)
        console = os.name == "nt" and stream.isatty()  # not written like a file
        if stream is getattr(sys, f"__{name}__") and not console:
            raw = _Stream(descriptor, once=name == "stdout")
            setattr(sys, name, _text(raw, stream))
            if name == "stdout":
                _out = raw


def _text(raw: _Stream, stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """Return a text stream like the given one that escapes characters it cannot encode."""
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        stream.encoding,
        "backslashreplace",
        line_buffering=stream.line_buffering or stream.write_through,  # as with python -u
    )


def output_is_lost() -> bool:
    """Whether writing to stdout has failed."""
    return _out is not None and _out.failure is not None


def output_failure() -> str | None:
    """Return why writing to stdout failed; None on success or if the reader closed the pipe."""
    if _out is None:
        return None
    sys.stdout.flush()
    error = _out.failure
    return None if error is None or error.errno in _GONE else error.strerror or str(error)
