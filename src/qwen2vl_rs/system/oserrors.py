"""What people are told where a call to the operating system fails: which file, why, what helps.

The hint goes by the cause (``errno``), in one place for all commands: a failing disk is no matter
of permissions, and a full one none of the network.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import Qwen2VLRSError, RunError
from .disk import is_disk_full, room_hint
from .named_files import ReadError, WriteError, open_named

ABSENT = (FileNotFoundError, NotADirectoryError)
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_FAULTY = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENODEV, errno.ENXIO}
_FAULTY.add(getattr(errno, "EREMOTEIO", errno.EIO))  # of Linux only
_IN_THE_WAY = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY}
_CHECK_DISK = "check the disk or network share it lies on"
_AGAIN = ", then run the same command again"
#: Causes that have nothing to do with the file itself.
_OF_THE_PROCESS = {
    errno.EMFILE: "allow the command more open files: ulimit -n 4096",
    errno.ENFILE: "the whole machine has too many open files: end what holds them",
    errno.ENOMEM: "free some memory, or allow the command more: ulimit -v unlimited",
    errno.EAGAIN: "end other programs, or allow more processes and threads: ulimit -u",
}
#: What helps where a file cannot be written for another cause than the disk.
_WRITING = {
    **_OF_THE_PROCESS,
    **dict.fromkeys(FORBIDDEN, "choose an output folder you may write to"),
    errno.EFBIG: "files may not become so large: ulimit -f unlimited, or choose another output",
    errno.EXDEV: "choose an output folder that is no mount point and lies on one file system",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOENT: "its folder is not there any more, or a link leads nowhere: "
    "choose another output",
}
#: How torch says that a file took not all it wrote, and hides why.
_TORCH_WROTE = re.compile(r"inline_container|PytorchStreamWriter|basic_ios|iostream|ofstream")
_PROBE = 1 << 20  # bytes
_WHOLE = 1 << 30  # bytes that are read again in order to learn why a library could not


class Unwritable(RunError):
    """A file cannot be written; commands that resume add how to do so.

    Attributes:
        mendable: whether it can be written there once the hint was followed.
    """

    mendable = True


def unreadable(path: str | os.PathLike[str], error: OSError) -> RunError:
    """The error for a file that may be there and sound, but cannot be read now."""
    return RunError(
        f"cannot read {error.filename or path}: {_said(error)}", hint=reading_hint(error)
    )


def reading_hint(error: OSError, other: str = "") -> str:
    """What helps where a file or folder cannot be read.

    Args:
        error: why.
        other: the hint to name another, where that may help.
    """
    if error.errno in FORBIDDEN:
        return other or "make it readable for you (chmod, or the account that wrote it)"
    if error.errno in _OF_THE_PROCESS:
        return f"{_OF_THE_PROCESS[error.errno]}{_AGAIN}"
    if error.errno in {*_IN_THE_WAY, errno.ENOENT, errno.ELOOP, errno.ENAMETOOLONG}:
        return other or "check its name, and where its links lead (ls -l)"
    return f"{_CHECK_DISK}{_AGAIN}"


def unwritable(path: Path, error: OSError) -> Unwritable:
    """The error for a file that cannot be written."""
    found = Unwritable(f"cannot write {path}: {_said(error)}", hint=writing_hint(path, error))
    found.mendable = error.errno not in {*FORBIDDEN, errno.EXDEV, errno.ENAMETOOLONG}
    return found


def writing_hint(path: Path, error: OSError) -> str:
    """What helps where a file cannot be written."""
    if is_disk_full(error):
        return room_hint(path)
    if error.errno in _IN_THE_WAY:
        return f"something is in the way: move {error.filename or path} away, or choose another"
    return _WRITING.get(error.errno or 0, _CHECK_DISK)


def explain_os_error(error: OSError) -> Qwen2VLRSError:
    """The error for a failure that nobody foresaw."""
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    if not name:
        by_cause = _OF_THE_PROCESS.get(error.errno or 0)
        if is_disk_full(error):
            by_cause = "free some disk space, also where temporary files lie (TMPDIR)"
        elif error.errno in _FAULTY:
            by_cause = "check the disks and network shares at hand"
        return Qwen2VLRSError(
            f"a call to the operating system failed: {_said(error)}",
            hint=by_cause or "QWEN2VL_RS_DEBUG=1 before the command shows where",
        )
    if isinstance(error, ReadError):
        return unreadable(name, error)
    if isinstance(error, WriteError) or is_disk_full(error):
        return unwritable(Path(name), error)
    hint = reading_hint(error)
    if error.errno in FORBIDDEN:
        hint = "check its permissions, and the disk it lies on"
    other = f" (to {os.fsdecode(error.filename2)})" if error.filename2 else ""
    return Qwen2VLRSError(f"cannot read or write {name}{other}: {_said(error)}", hint=hint)


def mode_of(path: str | os.PathLike[str]) -> int | None:
    """The mode of what bears a name (see `stat`); None where nothing does.

    Unlike `os.path.exists` it does not call absent what cannot be looked at.

    Raises:
        RunError: that cannot be told.
    """
    try:
        return os.stat(path).st_mode
    except (*ABSENT, ValueError):  # the latter for names that no file can have
        return None
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            return None
        raise unreadable(path, error) from error


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file bears this name; for errors see `mode_of`."""
    mode = mode_of(path)
    return mode is not None and stat.S_ISREG(mode)


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a folder bears this name; for errors see `mode_of`."""
    mode = mode_of(path)
    return mode is not None and stat.S_ISDIR(mode)


def root_cause(error: BaseException) -> OSError | None:
    """What the operating system told, below the errors that libraries made of it."""
    seen: set[int] = set()
    ahead: list[BaseException | None] = [error]
    while ahead:
        one = ahead.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, OSError) and one.errno and one.strerror:
            return one
        ahead += [one.__context__, one.__cause__]
        if isinstance(one, BaseExceptionGroup):
            ahead += one.exceptions
    return None


def process_limit(error: BaseException) -> OSError | None:
    """A limit of this process (open files, memory) that looks like trouble with the network."""
    cause = root_cause(error)
    return cause if cause and cause.errno in _OF_THE_PROCESS else None


def folder_is_gone() -> bool:
    """Whether the current folder was removed, so that no relative name leads anywhere."""
    try:
        os.getcwd()
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return False


def no_thread(error: RuntimeError) -> Qwen2VLRSError | None:
    """The error for a thread that cannot be started; None for another one."""
    if "can't start new thread" not in str(error):
        return None
    return Qwen2VLRSError(
        "no thread can be started: too many processes and threads",
        hint=f"{_OF_THE_PROCESS[errno.EAGAIN]}{_AGAIN}",
    )


def library_os_error(error: BaseException) -> OSError | None:
    """What the operating system told a library, as far as the library says so.

    safetensors and tokenizers (Rust) put the number behind their words; torch keeps it to itself,
    and the words depend on whether the file was large (``inline_container``) or so small that it
    was only written when it was closed (``basic_ios::clear: iostream error``).
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error
    if found := re.search(r"\(os error (\d+)\)", str(error)):
        number = int(found[1])
        return OSError(number, os.strerror(number))
    if isinstance(error, RuntimeError) and _TORCH_WROTE.search(str(error)):
        return OSError(errno.EIO, "not all of it could be written")
    return None


@contextlib.contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Where libraries write into a file or folder: that they cannot is told as we tell it.

    Raises:
        Unwritable: the disk is full, or fails otherwise.
    """
    try:
        yield
    except (ReadError, WriteError):
        raise  # these name their file
    except Exception as error:
        found = library_os_error(error)
        if found is None or found.filename:
            raise
        if isinstance(error, RuntimeError):
            found = _asked_again(path) or found
        raise unwritable(path, found) from error


def _asked_again(path: Path) -> OSError | None:
    """Why nothing more can be written in a place, where a library does not say; None if it can."""
    folder = path if path.is_dir() else path.parent
    try:
        there = os.statvfs(folder) if hasattr(os, "statvfs") else None  # not on Windows
        if there and (not there.f_bavail or (there.f_files and not there.f_favail)):
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            for _ in range(_PROBE >> 16):
                file.write(bytes(1 << 16))
            os.fsync(file.fileno())
    except OSError as error:
        return OSError(error.errno, error.strerror)
    return None


def read_failure(path: Path, error: BaseException | None = None) -> OSError | None:
    """Why a library could not read a file, as the operating system says; None if it is the content.

    safetensors calls every file absent that it cannot open, and image readers call one broken.

    Args:
        path: of the file.
        error: what the library raised.
    """
    try:
        with open_named(path, "rb") as file:
            left = _WHOLE
            while left > 0 and (part := file.read(1 << 20)):
                left -= len(part)
    except ABSENT:
        return None
    except OSError as found:
        return found
    if error is None:
        return None
    if isinstance(error, FileNotFoundError) or "No such file or directory" in str(error):
        return ReadError(errno.EIO, "it is there, but could not be opened", str(path))
    told = library_os_error(error)
    if told is None or isinstance(error, RuntimeError):
        return None
    return ReadError(told.errno, told.strerror, str(path))


@contextlib.contextmanager
def explain_read_errors(*paths: Path) -> Iterator[None]:
    """Where libraries read files: what the operating system refused is told by its cause.

    Raises:
        RunError: one cannot be read. What is wrong with its content is the library's to say.
    """
    try:
        yield
    except Qwen2VLRSError:
        raise
    except Exception as error:
        for path in paths:
            named = path.name in str(error) or len(paths) == 1
            if found := read_failure(path, error if named else None):
                raise unreadable(path, found) from error
        told = library_os_error(error)
        if told and not told.filename and not isinstance(error, RuntimeError):
            raise unreadable(os.path.commonpath(paths), told) from error
        raise


def _said(error: OSError) -> str:
    """The cause in words; `shutil` collects several errors in one, which has none of its own."""
    if error.strerror:
        return error.strerror
    if error.args and isinstance(error.args[0], list) and error.args[0]:
        last = error.args[0][0]
        return str(last[-1] if isinstance(last, tuple) else last)
    return str(error)
