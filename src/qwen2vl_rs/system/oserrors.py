"""Error messages and hints for operating system errors, by cause (``errno``).

All commands use them, so that the hint fits the cause: a failing disk is not a permission problem,
and a full disk is not a network problem.
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
_FAULTY.add(getattr(errno, "EREMOTEIO", errno.EIO))  # Linux only
_IN_THE_WAY = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY}
_CHECK_DISK = "check the disk or network share it is on"
_AGAIN = ", then run the same command again"
#: Causes that do not concern the file itself.
_OF_THE_PROCESS = {
    errno.EMFILE: "raise the limit of open files: ulimit -n 4096",
    errno.ENFILE: "the machine has too many open files: end the programs that hold them",
    errno.ENOMEM: "free some memory, or raise its limit: ulimit -v unlimited",
    errno.EAGAIN: "end other programs, or raise the limit of processes and threads: ulimit -u",
}
#: Hints for files that cannot be written for another reason than the disk.
_WRITING = {
    **_OF_THE_PROCESS,
    **dict.fromkeys(FORBIDDEN, "choose an output folder you may write to"),
    errno.EFBIG: "the file size limit is too low: ulimit -f unlimited, or choose another output",
    errno.EXDEV: "choose an output folder that is not a mount point and is on one file system",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOENT: "its folder was removed, or a link is broken: choose another output",
}
#: Messages of torch for an incomplete write, without the cause.
_TORCH_WROTE = re.compile(r"inline_container|PytorchStreamWriter|basic_ios|iostream|ofstream")
_PROBE = 1 << 20  # bytes
_WHOLE = 1 << 30  # bytes to read again to find out why a library failed


class Unwritable(RunError):
    """A file cannot be written; resumable commands add how to resume.

    Attributes:
        mendable: whether the file can be written there after following the hint.
    """

    mendable = True


def unreadable(path: str | os.PathLike[str], error: OSError) -> RunError:
    """Return the error for a file that cannot be read now, but may exist and be intact."""
    return RunError(
        f"cannot read {error.filename or path}: {_reason(error)}", hint=reading_hint(error)
    )


def reading_hint(error: OSError, other: str = "") -> str:
    """Return the hint for a file or folder that cannot be read.

    Args:
        error: the cause.
        other: hint to choose another file, if that may help.
    """
    if error.errno in FORBIDDEN:
        return other or "give yourself read permission (chmod, or the account that wrote it)"
    if error.errno in _OF_THE_PROCESS:
        return f"{_OF_THE_PROCESS[error.errno]}{_AGAIN}"
    if error.errno in {*_IN_THE_WAY, errno.ENOENT, errno.ELOOP, errno.ENAMETOOLONG}:
        return other or "check its name and the targets of its links (ls -l)"
    return f"{_CHECK_DISK}{_AGAIN}"


def unwritable(path: Path, error: OSError) -> Unwritable:
    """Return the error for a file that cannot be written."""
    found = Unwritable(f"cannot write {path}: {_reason(error)}", hint=writing_hint(path, error))
    found.mendable = error.errno not in {*FORBIDDEN, errno.EXDEV, errno.ENAMETOOLONG}
    return found


def writing_hint(path: Path, error: OSError) -> str:
    """Return the hint for a file that cannot be written."""
    if is_disk_full(error):
        return room_hint(path)
    if error.errno in _IN_THE_WAY:
        return f"something is in the way: move {error.filename or path} away, or choose another"
    return _WRITING.get(error.errno or 0, _CHECK_DISK)


def explain_os_error(error: OSError) -> Qwen2VLRSError:
    """Return the error for an OS error that was not handled elsewhere."""
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    if not name:
        by_cause = _OF_THE_PROCESS.get(error.errno or 0)
        if is_disk_full(error):
            by_cause = "free some disk space, also for temporary files (TMPDIR)"
        elif error.errno in _FAULTY:
            by_cause = "check the disks and network shares in use"
        return Qwen2VLRSError(
            f"a call to the operating system failed: {_reason(error)}",
            hint=by_cause or "set QWEN2VL_RS_DEBUG=1 for a traceback",
        )
    if isinstance(error, ReadError):
        return unreadable(name, error)
    if isinstance(error, WriteError) or is_disk_full(error):
        return unwritable(Path(name), error)
    hint = reading_hint(error)
    if error.errno in FORBIDDEN:
        hint = "check its permissions and the disk it is on"
    other = f" (to {os.fsdecode(error.filename2)})" if error.filename2 else ""
    return Qwen2VLRSError(f"cannot read or write {name}{other}: {_reason(error)}", hint=hint)


def mode_of(path: str | os.PathLike[str]) -> int | None:
    """Return the mode of a file or folder (see `stat`); None if it does not exist.

    Unlike `os.path.exists` it does not report an inaccessible file as missing.

    Raises:
        RunError: this cannot be determined.
    """
    try:
        return os.stat(path).st_mode
    except (*ABSENT, ValueError):  # ValueError: an impossible file name
        return None
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            return None
        raise unreadable(path, error) from error


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a regular file; for errors see `mode_of`."""
    mode = mode_of(path)
    return mode is not None and stat.S_ISREG(mode)


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder; for errors see `mode_of`."""
    mode = mode_of(path)
    return mode is not None and stat.S_ISDIR(mode)


def root_cause(error: BaseException) -> OSError | None:
    """Return the operating system's error in the chain of an exception; None if there is none."""
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
    """Return the process limit (open files, memory) behind an apparent network error."""
    cause = root_cause(error)
    return cause if cause and cause.errno in _OF_THE_PROCESS else None


def folder_is_gone() -> bool:
    """Whether the current folder was removed, so that relative paths are invalid."""
    try:
        os.getcwd()
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return False


def no_thread(error: RuntimeError) -> Qwen2VLRSError | None:
    """Return the error for a thread that cannot be started; None for other errors."""
    if "can't start new thread" not in str(error):
        return None
    return Qwen2VLRSError(
        "no thread can be started: too many processes and threads",
        hint=f"{_OF_THE_PROCESS[errno.EAGAIN]}{_AGAIN}",
    )


def library_os_error(error: BaseException) -> OSError | None:
    """Return the operating system's error behind a library's error, if it is known.

    safetensors and tokenizers (Rust) give the number at the end of the message. torch gives none;
    its message depends on whether the file was large (``inline_container``) or so small that it
    was written on closing (``basic_ios::clear: iostream error``).
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error
    if found := re.search(r"\(os error (\d+)\)", str(error)):
        number = int(found[1])
        return OSError(number, os.strerror(number))
    if isinstance(error, RuntimeError) and _TORCH_WROTE.search(str(error)):
        return OSError(errno.EIO, "it could not be written completely")
    return None


@contextlib.contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Turn errors of libraries that write to a file or folder into `Unwritable`.

    Raises:
        Unwritable: the disk is full or fails.
    """
    try:
        yield
    except (ReadError, WriteError):
        raise  # these name the file
    except Exception as error:
        found = library_os_error(error)
        if found is None or found.filename:
            raise
        if isinstance(error, RuntimeError):
            found = _probe_write(path) or found
        raise unwritable(path, found) from error


def _probe_write(path: Path) -> OSError | None:
    """Find out why a folder cannot be written to, if the library does not say; None if it can."""
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
    """Return the OS error that kept a library from reading a file; None if it is the content.

    safetensors reports files that it cannot open as missing, image readers report them as broken.

    Args:
        path: the file.
        error: the library's error.
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
        return ReadError(errno.EIO, "it exists, but could not be opened", str(path))
    cause = library_os_error(error)
    if cause is None or isinstance(error, RuntimeError):
        return None
    return ReadError(cause.errno, cause.strerror, str(path))


@contextlib.contextmanager
def explain_read_errors(*paths: Path) -> Iterator[None]:
    """Turn errors of libraries that read files into a `RunError` if the OS caused them.

    Raises:
        RunError: a file cannot be read. Errors about the content pass unchanged.
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
        cause = library_os_error(error)
        if cause and not cause.filename and not isinstance(error, RuntimeError):
            raise unreadable(os.path.commonpath(paths), cause) from error
        raise


def _reason(error: OSError) -> str:
    """Return the cause as text; `shutil` collects several errors in one."""
    if error.strerror:
        return error.strerror
    if error.args and isinstance(error.args[0], list) and error.args[0]:
        last = error.args[0][0]
        return str(last[-1] if isinstance(last, tuple) else last)
    return str(error)
