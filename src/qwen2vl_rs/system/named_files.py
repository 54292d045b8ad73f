"""File objects with errors that name the file, and say whether it was read or written.

Errors of `open` name the file. Errors of a later read or write (EIO, ESTALE, disk full) do not.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


class ReadError(OSError):
    """Reading an open file failed."""


class WriteError(OSError):
    """Writing to an open file failed."""


class NamedFile(io.FileIO):
    """An unbuffered file with errors that name it."""

    def read(self, size: int | None = -1, /) -> Any:
        """See `io.FileIO`; a `ReadError` names the file."""
        with reading(self.name):
            return super().read(-1 if size is None else size)

    def readall(self) -> Any:
        """See `read`."""
        with reading(self.name):
            return super().readall()

    def readinto(self, buffer: Any, /) -> Any:
        """See `read`."""
        with reading(self.name):
            return super().readinto(buffer)

    def write(self, data: Any, /) -> Any:
        """See `io.FileIO`; a `WriteError` names the file."""
        with writing(self.name):
            return super().write(data)

    def close(self) -> None:
        """See `io.FileIO`; some file systems write only now."""
        if self.closed:
            return
        with writing(self.name) if self.writable() else reading(self.name):
            super().close()


def open_named(path: str | os.PathLike[str], mode: str = "r", encoding: str = "utf-8") -> IO[Any]:
    r"""Open a file like `open`, text as UTF-8 with ``\n`` line ends.

    Args:
        path: the file.
        mode: one of r, w, x, a and r+, alone or with b.
        encoding: encoding of text.

    Raises:
        OSError: it cannot be opened; later a `ReadError` or a `WriteError`.
    """
    reads = mode[0] == "r" and "+" not in mode
    try:
        raw = NamedFile(os.fspath(path), mode.replace("b", ""))
    except OSError as error:
        if type(error) is not OSError:  # missing, forbidden, a folder: specific classes
            raise
        kind = ReadError if reads else WriteError
        raise kind(error.errno, error.strerror, error.filename) from error
    try:
        buffered = io.BufferedReader if mode[0] == "r" else io.BufferedWriter
        file: Any = io.BufferedRandom(raw) if "+" in mode else buffered(raw)
        newline = None if mode[0] == "r" else ""
        return file if "b" in mode else io.TextIOWrapper(file, encoding, newline=newline)
    except BaseException:
        raw.close()
        raise


def read_bytes(path: Path | str) -> bytes:
    """Read a binary file; for errors see `open_named`."""
    with open_named(path, "rb") as file:
        return bytes(file.read())


def read_text(path: Path | str, encoding: str = "utf-8") -> str:
    """Read a text file; for errors see `open_named`."""
    with open_named(path, "r", encoding) as file:
        return str(file.read())


def write_text(path: Path, text: str) -> None:
    """Write a text file (not atomically); for errors see `open_named`."""
    with open_named(path, "w") as file:
        file.write(text)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's content; unlike `shutil`, errors name the file that failed.

    Raises:
        OSError: one cannot be opened; later a `ReadError` or a `WriteError`.
    """
    with open_named(source, "rb") as given, open_named(target, "wb") as file:
        while part := given.read(1 << 20):
            file.write(part)


def reading(path: Any) -> contextlib.AbstractContextManager[None]:
    """Turn OS errors that name no file into a `ReadError` of this file."""
    return _naming(path, ReadError)


def writing(path: Any) -> contextlib.AbstractContextManager[None]:
    """Turn OS errors that name no file into a `WriteError` of this file."""
    return _naming(path, WriteError)


@contextlib.contextmanager
def _naming(path: Any, kind: type[OSError]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise kind(error.errno, error.strerror, os.fspath(path)) from error
