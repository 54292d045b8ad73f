"""What a disk gives a file: room, a mode, and that it is still there after a power cut."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from .console import say_once
from .named_files import writing

UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


def is_disk_full(error: OSError) -> bool:
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


def apply_umask(folder: Path) -> None:
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


def flush(files: Iterable[Path], folders: Iterable[Path] = ()) -> None:
    """Flush files to disk, and the entries of the folders they lie in and of others.

    What names or counts on a file is written after this: then it is never there without it.

    Raises:
        OSError: one of them is not there, or the disk fails.
    """
    places = set(folders)
    for path in files:
        with path.open("rb") as file, writing(path):
            os.fsync(file.fileno())
        places.add(path.parent)
    for folder in sorted(places):
        sync_folder(folder)


def make_folder(folder: Path) -> None:
    """Make a folder and those it lies in, where they are missing, and flush their entries to disk.

    Raises:
        OSError: one cannot be made.
    """
    missing = [one for one in (folder, *folder.parents) if not os.path.isdir(one)]
    folder.mkdir(parents=True, exist_ok=True)
    for one in missing:
        sync_folder(one.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename survives a power cut.

    Some file systems (CIFS, some of FUSE) cannot do that, and a folder that may be written to but
    not read cannot be opened for it. What was renamed is in place all the same.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        if os.name != "nt":  # which opens no folder
            _say_not_flushed(folder)
        return
    try:
        with writing(folder):
            os.fsync(handle)
    except OSError as error:
        if error.errno not in {*UNSUPPORTED, errno.EBADF}:
            raise
        _say_not_flushed(folder)
    finally:
        os.close(handle)


def _say_not_flushed(folder: Path) -> None:
    say_once(
        "fsync",
        f"the file system of {folder} cannot flush a folder: after a power cut the newest files "
        "may be missing",
    )
