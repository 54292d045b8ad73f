"""Files: written whole or not at all, locked, and checked by content."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from .console import warn_once
from .disk import UNSUPPORTED, flush, full, make_folder, open_up, room_hint, sync_folder
from .errors import RunError
from .jsonl import to_json
from .locks import lock_file

HUB_MANIFEST = ".qwen2vl-rs.json"  # in a fetched model: where it came from
CHECKSUMS = "checksums.json"

_ABSENT = (FileNotFoundError, NotADirectoryError)
_FAULTY = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENODEV, errno.ENXIO}
_FAULTY.add(getattr(errno, "EREMOTEIO", errno.EIO))  # of Linux only
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


def unreadable(path: Path | str, error: OSError) -> RunError:
    """The error for a file that may be there and sound, but cannot be read now."""
    hint = "check the disk or network share it lies on, then run the same command again"
    if error.errno in _FORBIDDEN:
        hint = "make it readable for you (chmod, or the account that wrote it)"
    return RunError(f"cannot read {error.filename or path}: {error.strerror or error}", hint=hint)


def _unwritable(path: Path, error: OSError, again: str = "") -> RunError:
    """The error for a file that cannot be written; ``again`` is what to do after mending."""
    if full(error):
        hint = f"{room_hint(path)}{again}"
    elif error.errno in _FAULTY:
        hint = f"check the disk or network share it lies on{again}"
    elif error.errno in _FORBIDDEN:
        hint = "choose an output folder you may write to"
    else:
        hint = "free some disk space, or choose an output folder you may write to"
    return RunError(f"cannot write {path}: {error.strerror or error}", hint=hint)


@contextlib.contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    r"""Open a temporary neighbour of ``path`` and rename it over ``path`` when all went well.

    The file is flushed to disk before the rename, so after a crash ``path`` is the old file or
    the new one, never half of it. Text is UTF-8 with ``\n`` line ends.

    Raises:
        RunError: the folder cannot be written to.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # `Path.exists` raises for long names
        raise RunError(f"cannot write {path}: it is no regular file", hint="choose another output")
    temporary = _temporary(path)
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    try:
        make_folder(path.parent)
        with temporary.open(mode, **text) as file:  # type: ignore[call-overload]
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        ours = {None, str(temporary), *map(str, path.parents)}  # a failed write() names no file
        if error.filename not in ours:
            raise
        raise _unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _temporary(path: Path) -> Path:
    """Where a file is written before it gets its name."""
    short = os.fsdecode(os.fsencode(path.name)[:200])  # a name has at most 255 bytes
    return path.with_name(f".{short}.tmp")


def sweep(path: Path) -> None:
    """Remove what a killed `atomic_write` left beside a file that is not written again."""
    _temporary(path).unlink(missing_ok=True)


@contextlib.contextmanager
def appending(path: Path, mode: str = "a") -> Iterator[IO[Any]]:
    """Open a file that grows while work proceeds, and from which it goes on.

    Raises:
        RunError: it cannot be written to.
    """
    try:
        with path.open(mode, **({} if "b" in mode else {"encoding": "utf-8"})) as file:  # type: ignore[call-overload]
            yield file
    except OSError as error:
        if error.filename not in (None, str(path)):  # a failed write() names no file
            raise
        again = ", then run the same command again: it resumes"
        raise _unwritable(path, error, again) from error


def put_in_place(temporary: Path, path: Path) -> None:
    """Give a file that others have written its name, once it stands on disk under another.

    Raises:
        OSError: it cannot be flushed or renamed.
    """
    flush([temporary])
    temporary.replace(path)
    sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    with atomic_write(path) as file:
        file.write(to_json(value, indent=2) + "\n")


_REFUSED = object()


def read_json(path: Path, *, damaged: Any = _REFUSED) -> Any:
    """Read a JSON file of a run; None where there is none.

    Args:
        path: the file.
        damaged: what to return where the content is no JSON; without it that is an error.

    Raises:
        RunError: it is there and cannot be read, or its content is no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except _ABSENT:
        return None
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        if damaged is not _REFUSED:
            return damaged
        raise RunError(
            f"{path} is damaged: it is not JSON",
            hint="put back a copy of it, or remove it if what it says is not needed",
        ) from error


def is_there(path: Path) -> bool:
    """Whether something bears this name.

    Raises:
        RunError: that cannot be told. (`Path.exists` takes this for absent in newer Pythons.)
    """
    try:
        path.lstat()
    except _ABSENT:
        return False
    except OSError as error:
        raise unreadable(path, error) from error
    return True


def folders(parent: Path, pattern: str) -> list[tuple[re.Match[str], Path]]:
    """The folders in a folder whose whole names match; none where there is no such folder.

    Raises:
        RunError: they cannot be listed, which says nothing about what is there.
    """
    try:
        named = ((re.fullmatch(pattern, name), parent / name) for name in os.listdir(parent))
        return [(match, path) for match, path in named if match and _is_folder(path)]
    except _ABSENT:
        return []
    except OSError as error:
        raise unreadable(parent, error) from error


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except _ABSENT:  # a link that leads nowhere
        return False


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(folder: Path) -> None:
    """Write ``checksums.json``, last of all files: its presence says the folder is complete.

    Pages for people (``*.md``) are left out: they may be edited.
    """
    found = sorted(p for p in folder.rglob("*") if p.name != CHECKSUMS)
    files = [p for p in found if p.is_file()]
    open_up(folder)
    flush(files, [path for path in found if path.is_dir()])
    names = {str(p.relative_to(folder)): p for p in files}
    write_json(folder / CHECKSUMS, {n: sha256(p) for n, p in names.items() if not _is_page(n)})


def _is_page(name: str) -> bool:
    return name.endswith(".md")


def damage(folder: Path) -> str | None:
    """What is wrong with a sealed folder, or None when every file is as it was written.

    Raises:
        RunError: a file cannot be read now. That says nothing about what is in it.
    """
    try:
        expected = json.loads((folder / CHECKSUMS).read_bytes()).items()
    except _ABSENT:
        return f"{CHECKSUMS} is missing"
    except OSError as error:
        raise unreadable(folder / CHECKSUMS, error) from error
    except (ValueError, AttributeError):
        return f"{CHECKSUMS} is damaged"
    for name, digest in expected:
        if _is_page(name):  # as older versions listed it
            continue
        try:
            if sha256(folder / name) != digest:
                return f"{name} has changed since it was written"
        except (*_ABSENT, IsADirectoryError):
            return f"{name} is missing"
        except OSError as error:
            raise unreadable(folder / name, error) from error
    return None


def set_aside(folder: Path) -> Path:
    """Rename a damaged folder to ``<name>.damaged``, so that it is neither used nor lost.

    Raises:
        RunError: it cannot be renamed.
    """
    aside = folder.with_name(f"{folder.name}.damaged")
    n = 1
    while is_there(aside):
        n += 1
        aside = folder.with_name(f"{folder.name}.damaged-{n}")
    try:
        folder.rename(aside)
        sync_folder(folder.parent)
    except OSError as error:
        raise _unwritable(aside, error) from error
    return aside


def remove_folder(folder: Path) -> None:
    """Remove a folder that is not wanted any more: at once it has no name, then it is gone.

    Killed in between, it leaves a hidden folder instead of one that lacks files.
    """
    hidden = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(hidden, ignore_errors=True)
    folder.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def lock(handle: int, what: Path) -> bool:
    """Lock an open file for this process; False where another holds it.

    Where the file system knows no locks (Lustre without ``flock``, some of NFS and FUSE) there is
    none, which is said once.

    Raises:
        OSError: locking fails otherwise.
    """
    try:
        lock_file(handle)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
            return False
        if error.errno not in {*UNSUPPORTED, errno.ENOLCK}:
            raise
        warn_once(
            "flock",
            f"the file system of {what} has no locks: make sure yourself that only one process "
            "at a time works in a folder",
        )
    return True


@contextlib.contextmanager
def run_lock(run: Path) -> Iterator[None]:
    """Hold a run folder (made if missing) for one process at a time.

    A folder that was made and in which an error left nothing is removed again.

    Raises:
        RunError: another process holds it, or the folder cannot be written to.
    """
    hint = "choose another folder: --output"
    new = not os.path.lexists(run)
    try:
        make_folder(run)
        handle = os.open(run / ".lock", os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise RunError(f"cannot write to {run}: {error.strerror}", hint=hint) from error
    try:
        try:
            held = lock(handle, run)
        except OSError as error:
            raise RunError(f"cannot lock {run}: {error.strerror}", hint=hint) from error
        if not held:
            hint = "wait for it, or choose --output"
            raise RunError(f"another process is at work in {run}", hint=hint)
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # Windows removes no file that is open
            if new and os.listdir(run) == [".lock"]:
                (run / ".lock").unlink()
                run.rmdir()
        raise
    finally:
        os.close(handle)


@contextlib.contextmanager
def staged_folder(final: Path) -> Iterator[Path]:
    """Fill a hidden folder, then seal it and rename it to ``final`` in one step.

    A folder that stands at ``final`` is kept, under a hidden name, until the new one is in its
    place on disk; where that fails, or was interrupted, it is put back.

    Raises:
        RunError: the disk is full, or the folder cannot be written to.
    """
    staging = final.with_name(f".{final.name}.tmp")
    old = final.with_name(f".{final.name}.old")
    try:
        _put_back(old, final)
        shutil.rmtree(staging, ignore_errors=True)
        make_folder(staging.parent)
        staging.mkdir()
        yield staging
        seal(staging)
        if is_there(final):
            shutil.rmtree(old, ignore_errors=True)  # older than the sealed one at `final`
            final.rename(old)
        staging.rename(final)
        sync_folder(final.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        if error.filename and not _within(error.filename, final, staging, old):
            raise  # of something that was read for it
        raise _unwritable(final, error) from error
    finally:
        with contextlib.suppress(OSError):
            _put_back(old, final)
        shutil.rmtree(staging, ignore_errors=True)


def _put_back(old: Path, final: Path) -> None:
    """Give a folder its name again, where the one that was to follow it never came."""
    if is_there(old) and not is_there(final):
        old.rename(final)


def _within(name: str | bytes, final: Path, *hidden: Path) -> bool:
    """Whether a path is one of those written, in one of them, or one in which they lie."""
    path = Path(os.fsdecode(name))
    return path in (*final.parents, final) or any(h in (path, *path.parents) for h in hidden)
