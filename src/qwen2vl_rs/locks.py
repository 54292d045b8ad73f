"""A lock on an open file, by what the system has for it."""

from __future__ import annotations

import contextlib
import errno
import importlib


def lock_file(handle: int) -> None:
    """Lock an open file for this process, without waiting; the lock ends with the process.

    Imported where it is used: most commands lock nothing, and Windows has no ``fcntl``.

    Raises:
        OSError: another process holds it (EACCES, EAGAIN, EWOULDBLOCK), or there are no locks.
    """
    with contextlib.suppress(ImportError):
        posix = importlib.import_module("fcntl")
        posix.flock(handle, posix.LOCK_EX | posix.LOCK_NB)
        return
    with contextlib.suppress(ImportError):
        windows = importlib.import_module("msvcrt")
        windows.locking(handle, windows.LK_NBLCK, 1)
        return
    raise OSError(errno.ENOLCK, "this Python has no locks")
