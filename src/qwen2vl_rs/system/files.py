"""Atomic writes, checksums, locks of run folders, and reading and writing JSON."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ..errors import RunError
from .console import say
from .disk import apply_umask, flush, is_disk_full, make_folder, sync_folder
from .jsonl import to_json
from .locks import lock
from .named_files import ReadError, open_named, read_bytes, writing
from .oserrors import ABSENT, FORBIDDEN, Unwritable, unreadable, unwritable, writing_hint

HUB_MANIFEST = ".qwen2vl-rs.json"  # origin of a downloaded model
CHECKSUMS = "checksums.json"


@contextlib.contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    r"""Write a temporary file beside ``path`` and rename it to ``path`` on success.

    The file is flushed to disk before the rename: after a crash ``path`` is the complete old or
    new file. Text is UTF-8 with ``\n`` line ends.

    Raises:
        RunError: the folder cannot be written to.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # `Path.exists` raises for long names
        raise RunError(f"cannot write {path}: not a regular file", hint="choose another output")
    temporary = _temporary(path)
    try:
        make_folder(path.parent)
        with open_named(temporary, mode) as file:
            yield file
            file.flush()
            with writing(temporary):
                os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        ours = {str(temporary), *map(str, path.parents)}
        if isinstance(error, ReadError) or str(error.filename) not in ours:
            raise  # an error of a file that was read meanwhile
        raise unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _temporary(path: Path) -> Path:
    """Return the path of the temporary file of `atomic_write`."""
    short = os.fsdecode(os.fsencode(path.name)[:200])  # a name has at most 255 bytes
    return path.with_name(f".{short}.tmp")


def remove_stale(path: Path) -> None:
    """Remove the temporary file that a killed `atomic_write` left beside a file."""
    if is_there(_temporary(path)):  # a read-only file system refuses even if there is no file
        _temporary(path).unlink(missing_ok=True)


@contextlib.contextmanager
def append_to(path: Path, mode: str = "a") -> Iterator[IO[Any]]:
    """Open a file that grows during the work and from which the work resumes.

    Raises:
        RunError: it cannot be written to.
    """
    try:
        with open_named(path, mode) as file:
            yield file
    except OSError as error:
        if isinstance(error, ReadError) or str(error.filename) != str(path):
            raise  # an error of a file that was read meanwhile
        raise unwritable(path, error) from error


def put_in_place(temporary: Path, path: Path) -> None:
    """Flush a temporary file to disk and rename it to its final name.

    Raises:
        OSError: it cannot be flushed or renamed.
    """
    flush([temporary])
    temporary.replace(path)
    sync_folder(path.parent)


def write_json(path: Path, value: Any, *, changed: bool = False) -> None:
    """Write ``value`` as indented JSON, atomically.

    Args:
        path: the file.
        value: the content.
        changed: whether to write only if the content differs, so that a complete folder need not
            be writable.
    """
    text = to_json(value, indent=2) + "\n"
    if changed and is_there(path) and read_bytes(path) == text.encode():
        return
    with atomic_write(path) as file:
        file.write(text)


_REFUSED = object()


def read_json(path: Path, *, damaged: Any = _REFUSED) -> Any:
    """Read a JSON file of a run; None if there is no file.

    Args:
        path: the file.
        damaged: value to return if the content is not JSON; by default that is an error.

    Raises:
        RunError: the file exists and cannot be read, or its content is not JSON.
    """
    try:
        return json.loads(read_bytes(path))
    except ABSENT:
        return None
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        if damaged is not _REFUSED:
            return damaged
        raise RunError(
            f"{path} is damaged: it is not JSON",
            hint="restore a copy of it, or remove it if its content is not needed",
        ) from error


def is_there(path: Path) -> bool:
    """Whether a file, folder or link of this name exists.

    Raises:
        RunError: this cannot be determined. (`Path.exists` says absent in newer Pythons.)
    """
    try:
        path.lstat()
    except ABSENT:
        return False
    except OSError as error:
        raise unreadable(path, error) from error
    return True


def matching_folders(parent: Path, pattern: str) -> list[tuple[re.Match[str], Path]]:
    """Return the subfolders with names that match in full; empty if ``parent`` does not exist.

    Raises:
        RunError: the folder cannot be listed.
    """
    try:
        named = ((re.fullmatch(pattern, name), parent / name) for name in os.listdir(parent))
        return [(match, path) for match, path in named if match and _is_folder(path)]
    except ABSENT:
        return []
    except OSError as error:
        raise unreadable(parent, error) from error


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except ABSENT:  # a dangling link
        return False


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hex."""
    with open_named(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def write_checksums(folder: Path) -> None:
    """Write ``checksums.json``, last of all files: its presence marks the folder as complete.

    Markdown files are not included: they may be edited.
    """
    found = sorted(p for p in folder.rglob("*") if p.name != CHECKSUMS)
    files = [p for p in found if p.is_file()]
    apply_umask(folder)
    flush(files, [path for path in found if path.is_dir()])
    names = {str(p.relative_to(folder)): p for p in files}
    write_json(folder / CHECKSUMS, {n: sha256(p) for n, p in names.items() if not _is_page(n)})


def _is_page(name: str) -> bool:
    return name.endswith(".md")


def verify_checksums(folder: Path) -> str | None:
    """Compare a folder with its ``checksums.json``; return the first problem, or None.

    Raises:
        RunError: a file cannot be read; its content may be intact.
    """
    if not is_there(folder / CHECKSUMS):
        return f"{CHECKSUMS} is missing"
    expected = read_json(folder / CHECKSUMS, damaged=None)
    if not isinstance(expected, dict):
        return f"{CHECKSUMS} is damaged"
    for name, digest in expected.items():
        if _is_page(name):  # listed by older versions
            continue
        try:
            if sha256(folder / name) != digest:
                return f"{name} has changed since it was written"
        except (*ABSENT, IsADirectoryError):
            return f"{name} is missing"
        except OSError as error:
            raise unreadable(folder / name, error) from error
    return None


def set_aside(folder: Path) -> Path:
    """Rename a damaged folder to ``<name>.damaged``: it is kept, but no longer used.

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
        raise unwritable(aside, error) from error
    return aside


def discard(folder: Path) -> None:
    """Remove a temporary folder; log a message if that fails."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(RunError):
        if is_there(folder):
            say(f"{folder} is not needed and could not be removed")


def remove_folder(folder: Path) -> None:
    """Remove a folder: rename it to a hidden name, then delete it.

    If the process is killed in between, a hidden folder is left instead of an incomplete one.
    """
    hidden = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(hidden, ignore_errors=True)
    folder.rename(hidden)
    discard(hidden)


@contextlib.contextmanager
def run_lock(run: Path, *, read_only: str = "") -> Iterator[None]:
    """Lock a run folder (created if missing) for this process.

    A created folder is removed again if an error leaves it empty.

    Args:
        run: the run folder.
        read_only: hint for writes to a read-only folder, which needs no lock. Without this hint a
            read-only folder is refused at once.

    Raises:
        RunError: another process holds it, or the folder cannot be written to.
    """
    new = not os.path.lexists(run)
    handle = None
    try:
        make_folder(run)
        handle = os.open(run / ".lock", os.O_RDWR | os.O_CREAT)
    except OSError as error:
        if not (read_only and error.errno in FORBIDDEN and run.is_dir()):
            raise _unusable("write to", run, error) from error
    if handle is None:
        try:
            yield
        except Unwritable as error:
            error.hint, error.mendable = read_only, False
            raise
        return
    held = False
    try:
        try:
            held = lock(handle, run)
        except OSError as error:
            raise _unusable("lock", run, error) from error
        if not held:
            hint = "wait for it, or choose --output"
            raise RunError(f"another process is using {run}", hint=hint)
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # Windows cannot remove open files
            if new and held and os.listdir(run) == [".lock"]:
                (run / ".lock").unlink()
                run.rmdir()
        raise
    finally:
        os.close(handle)


def _unusable(what: str, run: Path, error: OSError) -> Unwritable:
    """Return the error for a folder that cannot be locked."""
    hint = writing_hint(run, error)
    if error.errno in FORBIDDEN:
        hint = "choose another folder: --output"
    found = Unwritable(f"cannot {what} {run}: {error.strerror}", hint=hint)
    found.mendable = error.errno not in FORBIDDEN
    return found


@contextlib.contextmanager
def staged_folder(final: Path) -> Iterator[Path]:
    """Fill a hidden folder, write its checksums and rename it to ``final`` in one step.

    An existing folder ``final`` is kept under a hidden name until the new one is in place on
    disk. It is restored if that fails or was interrupted.

    Raises:
        RunError: the disk is full, or the folder cannot be written to.
    """
    staging = final.with_name(f".{final.name}.tmp")
    old = final.with_name(f".{final.name}.old")
    try:
        _put_back(old, final)
        _clear(staging)
        make_folder(staging.parent)
        staging.mkdir()
        yield staging
        write_checksums(staging)
        if is_there(final):
            shutil.rmtree(old, ignore_errors=True)  # older than the complete one at `final`
            final.rename(old)
        staging.rename(final)
        sync_folder(final.parent)
        discard(old)
    except Unwritable as error:  # a file in the folder, under the hidden name
        error.message = error.message.replace(str(staging), str(final))
        raise
    except OSError as error:
        name = error.filename
        ours = is_disk_full(error) if name is None else _within(name, final, staging, old)
        if isinstance(error, ReadError) or not ours:
            raise  # an error of a file that was read for it
        raise unwritable(final, error) from error
    finally:
        with contextlib.suppress(OSError):
            _put_back(old, final)
        discard(staging)


def _clear(staging: Path) -> None:
    """Remove the hidden folder that a killed command left.

    Raises:
        Unwritable: it cannot be removed.
    """
    if not is_there(staging):
        return
    try:
        shutil.rmtree(staging)
    except OSError as error:  # it may name a file in the folder without its path
        hint = f"remove it yourself: rm -r {shlex.quote(str(staging))}"
        raise Unwritable(
            f"cannot remove {staging}, which an earlier command left: {error.strerror}", hint=hint
        ) from error


def _put_back(old: Path, final: Path) -> None:
    """Restore a folder that was renamed and not replaced."""
    if is_there(old) and not is_there(final):
        old.rename(final)


def _within(name: str | bytes, final: Path, *hidden: Path) -> bool:
    """Whether a path is one of the written folders, inside one of them, or a parent."""
    path = Path(os.fsdecode(name))
    return path in (*final.parents, final) or any(h in (path, *path.parents) for h in hidden)
