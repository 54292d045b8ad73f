"""What a disk gives a file: room, and a mode."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path


def full(error: OSError) -> bool:
    """Whether there was no room for a file, or none within the user's quota."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def room_hint(path: Path) -> str:
    """What to free so that a file can be written: bytes, or entries (inodes) where these are gone.

    Args:
        path: of the file, which need not be there.
    """
    place = next((one for one in (path, *path.absolute().parents) if one.exists()), path)
    with contextlib.suppress(OSError):
        there = os.statvfs(place)
        if there.f_files and not there.f_favail and there.f_bavail:
            return (
                f"remove some files: the file system of {place} has room, but no inodes left "
                "(df -i)"
            )
    return "free some disk space"


def open_up(folder: Path) -> None:
    """Give the files in a folder the mode that the umask gives new ones.

    safetensors writes through temporary files that only their owner may read, and leaves them so;
    other accounts, such as that of a server, are to read a model as they read its other files.
    """
    usual = 0o666 & ~_umask()
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode | usual != mode:
                with contextlib.suppress(OSError):  # a file system without modes
                    path.chmod(mode | usual)


def _umask() -> int:
    """The umask of this process, which can only be read by setting it."""
    now = os.umask(0o077)
    os.umask(now)
    return now
