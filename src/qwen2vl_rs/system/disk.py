"""Disk space, file modes, and flushing (fsync) that survives a power failure."""

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
    """Whether the disk is full or the user's quota is exceeded."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def room_hint(path: Path) -> str:
    """Return a hint on what to free so that a file can be written: space or inodes.

    Args:
        path: the file, which need not exist.
    """
    place = next((one for one in (path, *path.absolute().parents) if one.exists()), path)
    with contextlib.suppress(OSError):
        there = os.statvfs(place)
        if there.f_files and not there.f_favail and there.f_bavail:
            return (
                f"remove some files: the file system of {place} has free space, but no free inodes "
                "(df -i)"
            )
    return "free some disk space"


def apply_umask(folder: Path) -> None:
    """Set the mode of the files in a folder to the one that the umask gives new files.

    safetensors leaves files that only their owner can read. Other accounts, such as a server's,
    must be able to read a model like any other file.
    """
    usual = 0o666 & ~_umask()
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode | usual != mode:
                with contextlib.suppress(OSError):  # the file system has no modes
                    path.chmod(mode | usual)


def _umask() -> int:
    """Return the umask of this process, which can only be read by setting it."""
    now = os.umask(0o077)
    os.umask(now)
    return now


def flush(files: Iterable[Path], folders: Iterable[Path] = ()) -> None:
    """Flush files and their folders (and others) to disk.

    Write whatever refers to these files afterwards, so that it never exists without them.

    Raises:
        OSError: a file is missing, or the disk fails.
    """
    places = set(folders)
    for path in files:
        with path.open("rb") as file, writing(path):
            os.fsync(file.fileno())
        places.add(path.parent)
    for folder in sorted(places):
        sync_folder(folder)


def make_folder(folder: Path) -> None:
    """Create a folder and its missing parents, and flush their entries to disk.

    Raises:
        OSError: a folder cannot be created.
    """
    missing = [one for one in (folder, *folder.parents) if not os.path.isdir(one)]
    folder.mkdir(parents=True, exist_ok=True)
    for one in missing:
        sync_folder(one.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename survives a power failure.

    Some file systems (CIFS, some FUSE) cannot do that, and it needs read permission for the
    folder. The rename itself has succeeded in any case.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        if os.name != "nt":  # Windows cannot open folders
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
        f"the file system of {folder} cannot flush a folder: after a power failure the newest "
        "files may be missing",
    )
