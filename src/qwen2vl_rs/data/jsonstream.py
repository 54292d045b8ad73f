"""Lists of JSON records far larger than memory, read one record at a time."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import ijson

from ..console import Progress
from ..errors import DataError

_CHUNK = 1 << 16
_MEGABYTE = 1_000_000
_BOM = b"\xef\xbb\xbf"
_MALFORMED = (ijson.JSONError, UnicodeDecodeError)
_NAMES = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
_NAMES |= {int: "a whole number", float: "a number", type(None): "null"}


class _Metered(io.FileIO):
    """A file that moves a progress bar, in megabytes, as it is read."""

    def __init__(self, path: Path, bar: Progress) -> None:
        super().__init__(path)
        self._bar = bar
        self._read = 0

    def readinto(self, buffer: Any, /) -> int:
        n = super().readinto(buffer) or 0
        self._read += n
        self._bar.advance(self._read // _MEGABYTE - self._bar.done)
        return n


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading bytes, behind its byte order mark, with a progress bar.

    Raises:
        DataError: the file is missing, empty, or cannot be read.
    """
    try:
        total = path.stat().st_size
        with (
            Progress(f"reading {path.name}", total // _MEGABYTE, "MB") as bar,
            io.BufferedReader(_Metered(path, bar), _CHUNK) as file,
        ):
            if not total:
                raise DataError(f"{path} is empty", hint="fetch or write the file again")
            if file.peek(len(_BOM)).startswith(_BOM):
                file.seek(len(_BOM))
            yield file
    except FileNotFoundError as error:
        raise DataError(f"no file {path}", hint="check the name and the folder") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def opening(path: Path) -> tuple[str, str | None]:
    """How a file begins: ``("list", None)``, ``("object", first key)`` or ``("text", None)``.

    Raises:
        DataError: the file is missing, empty, or cannot be read.
    """
    with opened(path) as file:
        head = file.read(_CHUNK)
    events: list[tuple[str, Any]] = []
    with contextlib.suppress(*_MALFORMED):  # cut off after its first bytes: never complete
        for event in ijson.basic_parse(io.BytesIO(head)):
            events.append(event)
            if len(events) == 2:
                break
    match events:
        case [("start_array", _), *_]:
            return "list", None
        case [("start_map", _), ("map_key", key)]:
            return "object", str(key)
        case [("start_map", _), *_]:
            return "object", None
        case _:
            return "text", None


def require(path: Path, key: str | None) -> None:
    """Check that a file begins as ``{"<key>": …`` or, without a key, as a list.

    Raises:
        DataError: it begins otherwise, or is missing, empty, or cannot be read.
    """
    expected = f'an object with the key "{key}"' if key else "a list"
    kind, found = opening(path)
    if (kind, found) == (("object", key) if key else ("list", None)):
        return
    said = {"list": "a list", "text": "no JSON object or list"}.get(kind, "an object without keys")
    if found is not None:
        said = f'an object with the key "{found}"'
    hint = (
        "are the questions and the answers swapped?" if found in {"questions", "answers"} else None
    )
    raise DataError(f"{path} holds {said}, expected {expected}", hint=hint)


def records(path: Path, key: str | None) -> Iterator[dict[str, Any]]:
    """The objects of the list ``{"<key>": [...]}`` or, without a key, of a bare list.

    Memory does not grow with the length of the list.

    Raises:
        DataError: the file is missing, empty, malformed or truncated JSON, begins otherwise
            than asked, or a record is not an object. Places are given as record (from 1),
            byte (from 1) and line.
    """
    require(path, key)
    n = 0
    with opened(path) as file:
        items = ijson.items(file, f"{key}.item" if key else "item", use_float=True, buf_size=_CHUNK)
        try:
            for n, record in enumerate(items, 1):
                if type(record) is not dict:
                    raise DataError(f"{path}, record {n} is {name_of(record)}, expected an object")
                yield record
        except _MALFORMED as error:
            raise _malformed(path, n, max(0, file.tell() - _CHUNK), error) from error
    if n == 0:
        what = f'"{key}"' if key else "the list"
        raise DataError(f"{path}: {what} holds no records", hint="fetch or write the file again")


def name_of(value: object) -> str:
    """A JSON value's kind, in words."""
    return _NAMES[type(value)]


def fail(
    path: Path, n: int, record: dict[str, Any], problem: str, hint: str | None = None
) -> NoReturn:
    """Raise the error for one record, naming file, record number (from 1) and id.

    Raises:
        DataError: always.
    """
    name = record.get("id")
    named = f" (id {name})" if isinstance(name, int | str) else ""
    raise DataError(f"{path}, record {n}{named}: {problem}", hint=hint)


def field(path: Path, n: int, record: dict[str, Any], name: str, kind: type) -> Any:
    """A field that must be there and be of the kind given (true is no whole number).

    Raises:
        DataError: it is missing or of another kind.
    """
    value = record.get(name)
    if type(value) is not kind:
        if name not in record:
            fail(path, n, record, f'"{name}" is missing')
        fail(path, n, record, f'"{name}" is {name_of(value)}, expected {_NAMES[kind]}')
    return value


def _malformed(path: Path, done: int, start: int, error: Exception) -> DataError:
    """The error for broken JSON, its place found byte by byte from the chunk at ``start`` on."""
    events = ijson.sendable_list()
    parser = ijson.basic_parse_coro(events, use_float=True)
    line = 1
    with path.open("rb") as file:
        if file.read(len(_BOM)) != _BOM:
            file.seek(0)
        while (left := start - file.tell()) > 0:
            chunk = file.read(min(_CHUNK, left))
            line += chunk.count(b"\n")
            parser.send(chunk)
            events.clear()
        try:
            while byte := file.read(1):
                parser.send(byte)
                line += byte == b"\n"
        except _MALFORMED:
            return DataError(
                f"{path} is not valid JSON after record {done:,}, "
                f"at byte {file.tell():,} (line {line:,}): {_reason(error)}",
                hint="fetch or write the file again",
            )
        return DataError(
            f"{path} breaks off after record {done:,}, at byte {file.tell():,} (line {line:,})",
            hint="the file is incomplete: fetch it again",
        )


def _reason(error: Exception) -> str:
    """The parser's own words, without its drawing of the place."""
    if isinstance(error, UnicodeDecodeError):
        return "half a surrogate pair, which is no character"
    said = error.args[0]
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    return text.splitlines()[0].removeprefix("parse error: ").removeprefix("lexical error: ")
