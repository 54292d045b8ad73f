"""Files: written whole or not at all, locked, and checked by content."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from .errors import RunError
from .jsonl import to_json

HUB_MANIFEST = ".qwen2vl-rs.json"  # in a fetched model: where it came from
CHECKSUMS = "checksums.json"


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
        path.parent.mkdir(parents=True, exist_ok=True)
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
        raise RunError(
            f"cannot write {path}: {error.strerror or error}",
            hint="free some disk space, or choose an output folder you may write to",
        ) from error
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
        raise RunError(
            f"cannot write {path}: {error.strerror or error}",
            hint="free some disk space, then run the same command again: it goes on where it was",
        ) from error


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    with atomic_write(path) as file:
        file.write(to_json(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file of a run, None where it is missing or unreadable."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(folder: Path) -> None:
    """Write ``checksums.json``, last of all files: its presence says the folder is complete."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != CHECKSUMS)
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    write_json(folder / CHECKSUMS, {str(p.relative_to(folder)): sha256(p) for p in files})


def damage(folder: Path) -> str | None:
    """What is wrong with a sealed folder, or None when every file is as it was written."""
    try:
        expected = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8")).items()
    except (OSError, ValueError, AttributeError):
        return f"{CHECKSUMS} is missing or unreadable"
    for name, digest in expected:
        if not (folder / name).is_file():
            return f"{name} is missing"
        if sha256(folder / name) != digest:
            return f"{name} has changed since it was written"
    return None


@contextlib.contextmanager
def run_lock(run: Path) -> Iterator[None]:
    """Hold a run folder (made if missing) for one process at a time.

    Raises:
        RunError: another process holds it, or the folder cannot be written to.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        handle = os.open(run / ".lock", os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise RunError(
            f"cannot write to {run}: {error.strerror}", hint="choose another folder: --output"
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(
                f"another process is at work in {run}", hint="wait for it, or choose --output"
            ) from error
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def staged_folder(final: Path) -> Iterator[Path]:
    """Fill a hidden folder, then seal it and rename it to ``final`` in one step.

    A folder that stands at ``final`` is kept until then, under a hidden name.

    Raises:
        RunError: the disk is full, or the folder cannot be written to.
    """
    staging = final.with_name(f".{final.name}.tmp")
    old = final.with_name(f".{final.name}.old")
    try:
        shutil.rmtree(staging, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
        staging.mkdir(parents=True)
        yield staging
        seal(staging)
        if final.exists():
            final.rename(old)
        staging.rename(final)
        sync_folder(final.parent)
    except OSError as error:
        raise RunError(
            f"cannot write {final}: {error.strerror or error}",
            hint="free some disk space, or choose an output folder you may write to",
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
