"""File locks (``flock`` or ``msvcrt``)."""

from __future__ import annotations

import contextlib
import errno
import importlib
from pathlib import Path

from .console import warn_once
from .disk import UNSUPPORTED


def _lock_file(handle: int) -> None:
    """Lock an open file for this process without waiting; the lock ends with the process.

    The imports are local: most commands lock nothing, and Windows has no ``fcntl``.

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


def lock(handle: int, what: Path) -> bool:
    """Lock an open file for this process; return False if another process holds the lock.

    On a file system without locks (Lustre without ``flock``, some NFS and FUSE) there is no lock,
    and a warning is logged once.

    Raises:
        OSError: locking fails for another reason.
    """
    try:
        _lock_file(handle)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
            return False
        if error.errno not in {*UNSUPPORTED, errno.ENOLCK}:
            raise
        warn_once(
            "flock",
            f"the file system of {what} does not support locks: make sure that only one process "
            "at a time uses a folder",
        )
    return True
