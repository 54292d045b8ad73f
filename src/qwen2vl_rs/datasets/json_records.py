"""Lists of JSON records far larger than memory, read one record at a time."""

from __future__ import annotations

import codecs
import json
import json.scanner
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from ..errors import UTF_8, DataError
from .file_opening import AGAIN, opened, require, scan, short

RECORD_LIMIT = 64_000_000  # most characters of a record: no question is as long
DEPTH_LIMIT = 64  # most levels of lists and objects within a record, itself included
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1
BEYOND = "a number beyond 64 bits"
_CHUNK = 1 << 17
_MEGABYTE = 1_000_000
_NAMES = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
_NAMES |= {int: "a whole number", float: "a number", type(None): "null"}
_INK = re.compile(r"[^ \t\n\r]")
_NEXT = re.compile(r"[ \t\n\r]*,[ \t\n\r]*")
# what may stand behind a fault that only the end of the text makes one: `tru`, `-`, `1e`, `\u12`
_TAIL = re.compile(r'[^][{},:"]{0,12}\Z')
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def records(path: Path, key: str | None) -> Iterator[dict[str, Any]]:
    """The objects of the list ``{"<key>": [...]}`` or, without a key, of a bare list.

    Memory does not grow with the length of the list.

    Raises:
        DataError: the file is missing, empty, malformed or truncated JSON, begins otherwise
            than asked, or a record is not an object, too long or nested too deeply, or holds
            half a surrogate pair or a number beyond 64 bits. Places are given as record
            (from 1), byte (from 1) and line.
    """
    require(path, key)
    name = f'"{key}"' if key else "the list"
    with opened(path) as file:
        text = _Text(path, file)
        if key:
            text.take("{")
            text.value()
            text.take(":")
        if text.mark() not in {"[", ""}:
            text.inside = name
            said = f"{path}: {name} is {name_of(text.value())}, expected a list"
            raise DataError(said, hint=AGAIN)
        text.take("[")
        if text.mark() == "]":
            raise DataError(f"{path}: {name} holds no records", hint=AGAIN)
        for record in text.values():
            yield _object(path, text.done, record, name)
        if key:
            _check_rest(text, key)
        text.end()


def members(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The members of one large object, which are objects, with their names.

    Memory does not grow with their number.

    Raises:
        DataError: as `records` does.
    """
    for n, (name, value) in enumerate(_members(path), 1):
        yield name, _object(path, n, value, "it")


def member_lists(path: Path) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """The objects in the members of one large object, which are lists of them.

    Yields:
        The member's name, the place in its list (from 1), and the object.

    Raises:
        DataError: as `records` does.
    """
    n = 0
    for name, value in _members(path):
        if type(value) is not list:
            raise DataError(
                f"{path}: {short(name)!r} is {name_of(value)}, expected a list of questions",
                hint=f"each member must be a list: {AGAIN}",
            )
        for place, one in enumerate(value, 1):
            n += 1
            yield name, place, _object(path, n, one, f"the list of {short(name)!r}")


def _members(path: Path) -> Iterator[tuple[str, Any]]:
    with opened(path) as file:
        text = _Text(path, file)
        text.take("{")
        while True:
            if text.mark() not in {'"', ""}:
                raise text.malformed(text.at, "expecting a name")
            name = text.value()
            text.take(":")
            value = text.value()
            text.done += 1
            yield name, value
            if text.take(",}") == "}":
                break
        text.end()


def _object(path: Path, n: int, record: Any, name: str) -> dict[str, Any]:
    if type(record) is not dict:
        raise DataError(
            f"{path}, record {n} is {name_of(record)}, expected an object",
            hint=f"{name} must hold objects only: {AGAIN}",
        )
    found: dict[str, Any] = record
    return found


def _check_rest(text: _Text, key: str) -> None:
    """The other members of the object, which nobody reads: a cut file shall not pass as whole."""
    while text.take(",}") == ",":
        text.inside = "what follows the records"
        if text.mark() not in {'"', ""}:
            raise text.malformed(text.at, "expecting a name")
        if text.value() == key:
            raise DataError(f'{text.path}: "{key}" stands twice', hint=AGAIN)
        text.take(":")
        text.value()


def name_of(value: object) -> str:
    """A JSON value's kind, in words."""
    return _NAMES[type(value)]


def fail(
    path: Path,
    n: int,
    record: dict[str, Any],
    problem: str,
    hint: str | None = None,
    unit: str = "record",
) -> NoReturn:
    """Raise the error for one record, naming file, record number (from 1) and id.

    Args:
        path: the file.
        n: the number.
        record: it.
        problem: what is wrong with it.
        hint: what helps.
        unit: what a record of such a file is called.

    Raises:
        DataError: always.
    """
    name = record.get("id")
    named = f" (id {short(str(name))})" if isinstance(name, int | str) else ""
    raise DataError(
        f"{path}, {unit} {n}{named}: {problem}", hint=hint or f"correct the {unit} or leave it out"
    )


def _is_a(value: Any, kind: type) -> bool:
    return type(value) is kind


def field(path: Path, n: int, record: dict[str, Any], name: str, kind: type) -> Any:
    """A field that must be there and be of the kind given (true is no whole number).

    Raises:
        DataError: it is missing, of another kind, beyond 64 bits, or holds a NUL.
    """
    if name not in record:
        fail(path, n, record, f'"{name}" is missing')
    value: Any = record[name]
    if not _is_a(value, kind):
        fail(path, n, record, f'"{name}" is {name_of(value)}, expected {_NAMES[kind]}')
    if kind is str:
        if "\0" in value:
            fail(path, n, record, f'"{name}" holds a NUL')
    elif kind is int and not _LEAST <= value <= _MOST:
        fail(path, n, record, f'"{name}" holds {BEYOND}')
    return value


def answer_of(path: Path, n: int, record: dict[str, Any], name: str) -> str | None:
    """An answer that is text, or a whole number without quotes; None where there is none.

    Raises:
        DataError: it is anything else.
    """
    value = record.get(name)
    if type(value) is float and value.is_integer() and abs(value) < _MOST:
        return str(int(value))  # as tables with gaps hold whole numbers
    if value is not None and type(value) not in (int, str):
        fail(path, n, record, f'"{name}" is neither text nor a whole number')
    return None if value is None else str(field(path, n, record, name, type(value)))


class _Text:
    """JSON text, of which no more than a chunk or the current record is held.

    A record that does not end within the text held is decoded again with twice as much, so that
    the work stays linear in its length.

    Attributes:
        path: the file, for messages.
        done: number of records read.
        at: place in the text held.
        inside: what is being read where that is no record.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.done, self.at, self.inside = path, 0, 0, ""
        self._file, self._text, self._ended, self._fault = file, "", False, ""
        self._bytes, self._lines = file.tell(), 1  # before the text held
        self._escaped, self._decode = False, codecs.getincrementaldecoder("utf-8")().decode

    def mark(self) -> str:
        """The next character that is not blank; empty at the end."""
        while True:
            if found := _INK.search(self._text, self.at):
                self.at = found.start()
                return found[0]
            self.at = len(self._text)
            if not self._more():
                return ""

    def take(self, marks: str) -> str:
        """Step over one of the marks, and return it."""
        found = self.mark()
        if not found:
            raise self._cut()
        if found not in marks:
            raise self.malformed(self.at, "expecting " + " or ".join(marks))
        self.at += 1
        return found

    def value(self) -> Any:
        """Step over a value, and return it."""
        while True:
            text, at = self._text, self.at
            try:
                value, end = scan(text, at)
            except (ValueError, StopIteration, RecursionError) as error:
                self.mark()  # only now: most often nothing blank is left before the value
                if self._text is not text or self.at != at or self._more():
                    continue
                raise self._error(error) from error
            if end < len(self._text) or not self._more():  # more of a number might follow
                break
        self._check(value, end)
        self.at = end
        return value

    def values(self) -> Iterator[Any]:
        """Step over the values of a list and its end, counting them as records."""
        while True:
            value = self.value()
            self.done += 1
            yield value
            if comma := _NEXT.match(self._text, self.at):  # all but always
                self.at = comma.end()
            elif self.take(",]") == "]":
                return

    def end(self) -> None:
        """Check that nothing is left but blanks."""
        if self.mark():
            raise self.malformed(self.at, "something follows the end")
        if self._fault:
            raise self._cut()

    def malformed(self, at: int, why: str, hint: str = AGAIN) -> DataError:
        """The error for text that is no JSON at a place in the text held."""
        place = self._place(at, 1)
        return DataError(f"{self.path} is not valid JSON {place}: {why}", hint=hint)

    def _more(self) -> bool:
        """Hold more text, from the current place on; False when there is or may be no more."""
        rest = self._text[self.at :]
        if self._ended or len(rest) > RECORD_LIMIT:
            return False
        gone = self._text[: self.at]
        self._bytes += len(gone.encode())
        self._lines += gone.count("\n")
        raw = self._file.read(max(_CHUNK, len(rest)))
        self._ended = not raw
        try:
            text = self._decode(raw, not raw)
        except UnicodeDecodeError as error:
            # what stands before is read first: it may hold records, or a fault of its own
            text = error.object[: error.start].decode()
            self._fault = error.reason if raw else ""
            self._ended = True
        self._text, self.at = rest + text, 0
        self._escaped = "\\u" in self._text
        return True

    def _check(self, value: Any, end: int) -> None:
        text, at = self._text, self.at
        if end - at > RECORD_LIMIT:
            raise self._refused(f"longer than {RECORD_LIMIT // _MEGABYTE} MB")
        # counted in the text, because few records come near the limit
        levels = text.count("[", at, end) + text.count("{", at, end)
        if levels > DEPTH_LIMIT and _is_deep(value):
            raise self._refused(f"nested more than {DEPTH_LIMIT} levels deep")
        if self._escaped and _HALF.search(text, at, end):
            try:
                json.dumps(value, ensure_ascii=False).encode()
            except UnicodeEncodeError as error:
                raise self._refused("no text: it holds half a surrogate pair") from error

    def _error(self, error: Exception) -> DataError:
        if isinstance(error, RecursionError):
            return self._refused(f"nested more than {DEPTH_LIMIT} levels deep")
        if isinstance(error, StopIteration):
            at, why = error.value, "expecting a value"
        elif isinstance(error, json.JSONDecodeError):
            at, why = error.pos, error.msg[0].lower() + error.msg[1:]
        else:
            # Python converts no whole number of thousands of digits: it would take minutes
            said = str(error)
            return self._refused(f"refused: it holds {BEYOND if 'digits' in said else said}")
        if why.startswith("unterminated string") or _TAIL.match(self._text, at):
            return self._cut()
        return self.malformed(at, why)

    def _refused(self, problem: str) -> DataError:
        where = self.inside or f"record {self.done + 1}"
        return DataError(
            f"{self.path}, {where} is {problem}", hint="correct the record or leave it out"
        )

    def _cut(self) -> DataError:
        """The error for text that ends too early."""
        if not self._ended:
            return self._refused(f"longer than {RECORD_LIMIT // _MEGABYTE} MB")
        if self._fault:
            return self.malformed(len(self._text), f"no UTF-8 ({self._fault})", UTF_8)
        return DataError(
            f"{self.path} breaks off {self._place(len(self._text), 0)}",
            hint="the file is incomplete: fetch it again",
        )

    def _place(self, at: int, extra: int) -> str:
        before = self._text[:at]
        byte = self._bytes + len(before.encode()) + extra
        line = self._lines + before.count("\n")
        return f"after record {self.done:,}, at byte {byte:,} (line {line:,})"


def _is_deep(value: Any, left: int = DEPTH_LIMIT) -> bool:
    if type(value) not in {dict, list}:
        return False
    inner = value.values() if type(value) is dict else value
    return left == 0 or any(_is_deep(one, left - 1) for one in inner)
