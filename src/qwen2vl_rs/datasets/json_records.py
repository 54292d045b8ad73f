"""Stream JSON lists and objects larger than memory, one record at a time."""

from __future__ import annotations

import codecs
import json
import json.scanner
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from ..errors import UTF_8, DataError
from .file_opening import AGAIN, open_questions, require, scan, short

RECORD_LIMIT = 64_000_000  # characters per record
DEPTH_LIMIT = 64  # nested lists and objects per record, itself included
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1
BEYOND = "a number beyond 64 bits"
_CHUNK = 1 << 17
_MEGABYTE = 1_000_000
_NAMES = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
_NAMES |= {int: "a whole number", float: "a number", type(None): "null"}
_INK = re.compile(r"[^ \t\n\r]")
_NEXT = re.compile(r"[ \t\n\r]*,[ \t\n\r]*")
# text after an error that is due to truncation: `tru`, `-`, `1e`, `\u12`
_TAIL = re.compile(r'[^][{},:"]{0,12}\Z')
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def records(path: Path, key: str | None) -> Iterator[dict[str, Any]]:
    """Yield the objects of the list ``{"<key>": [...]}`` or, without a key, of a bare list.

    Memory does not grow with the length of the list.

    Raises:
        DataError: the file is missing, empty, malformed or truncated JSON, begins differently, or
            a record is not an object, too long or nested too deeply, or contains a lone surrogate
            or a number beyond 64 bits. Positions are given as record, byte (both from 1) and line.
    """
    require(path, key)
    name = f'"{key}"' if key else "the list"
    with open_questions(path) as file:
        text = _Text(path, file)
        if key:
            text.take("{")
            text.value()
            text.take(":")
        if text.mark() not in {"[", ""}:
            text.inside = name
            problem = f"{path}: {name} is {kind_name(text.value())}, expected a list"
            raise DataError(problem, hint=AGAIN)
        text.take("[")
        if text.mark() == "]":
            raise DataError(f"{path}: {name} contains no records", hint=AGAIN)
        for record in text.values():
            yield _object(path, text.done, record, name)
        if key:
            _check_rest(text, key)
        text.end()


def members(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the members of one large object, which must be objects, with their names.

    Memory does not grow with their number.

    Raises:
        DataError: see `records`.
    """
    for n, (name, value) in enumerate(_members(path), 1):
        yield name, _object(path, n, value, "it")


def member_lists(path: Path) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yield the objects in the members of one large object, which must be lists.

    Yields:
        Name of the member, position in its list (from 1), and object.

    Raises:
        DataError: see `records`.
    """
    n = 0
    for name, value in _members(path):
        if type(value) is not list:
            raise DataError(
                f"{path}: {short(name)!r} is {kind_name(value)}, expected a list of questions",
                hint=f"each member must be a list: {AGAIN}",
            )
        for place, one in enumerate(value, 1):
            n += 1
            yield name, place, _object(path, n, one, f"the list of {short(name)!r}")


def _members(path: Path) -> Iterator[tuple[str, Any]]:
    with open_questions(path) as file:
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
            f"{path}, record {n} is {kind_name(record)}, expected an object",
            hint=f"{name} must contain objects only: {AGAIN}",
        )
    found: dict[str, Any] = record
    return found


def _check_rest(text: _Text, key: str) -> None:
    """Parse the other members of the object, so that a truncated file is not accepted."""
    while text.take(",}") == ",":
        text.inside = "what follows the records"
        if text.mark() not in {'"', ""}:
            raise text.malformed(text.at, "expecting a name")
        if text.value() == key:
            raise DataError(f'{text.path}: "{key}" is a duplicate key', hint=AGAIN)
        text.take(":")
        text.value()


def kind_name(value: object) -> str:
    """Return the type of a JSON value in words."""
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
        n: number of the record.
        record: the record.
        problem: the problem.
        hint: the hint.
        unit: name of a record in messages.

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
    """Return a required field of a given type (true is not a whole number).

    Raises:
        DataError: it is missing, of another type, beyond 64 bits, or contains a NUL.
    """
    if name not in record:
        fail(path, n, record, f'"{name}" is missing')
    value: Any = record[name]
    if not _is_a(value, kind):
        fail(path, n, record, f'"{name}" is {kind_name(value)}, expected {_NAMES[kind]}')
    if kind is str:
        if "\0" in value:
            fail(path, n, record, f'"{name}" contains a NUL')
    elif kind is int and not _LEAST <= value <= _MOST:
        fail(path, n, record, f'"{name}" contains {BEYOND}')
    return value


def answer_of(path: Path, n: int, record: dict[str, Any], name: str) -> str | None:
    """Return an answer that is text or a whole number; None if it is missing.

    Raises:
        DataError: it has another type.
    """
    value = record.get(name)
    if type(value) is float and value.is_integer() and abs(value) < _MOST:
        return str(int(value))  # pandas writes integers in columns with gaps as floats
    if value is not None and type(value) not in (int, str):
        fail(path, n, record, f'"{name}" is neither text nor a whole number')
    return None if value is None else str(field(path, n, record, name, type(value)))


class _Text:
    """JSON text with a buffer of one chunk or the current record.

    A record that does not end within the buffer is decoded again after doubling the buffer, so that
    the work stays linear in its length.

    Attributes:
        path: the file, for messages.
        done: number of records read.
        at: position in the buffer.
        inside: name of what is being read, if it is not a record.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.done, self.at, self.inside = path, 0, 0, ""
        self._file, self._text, self._ended, self._fault = file, "", False, ""
        self._bytes, self._lines = file.tell(), 1  # before the buffer
        self._escaped, self._decode = False, codecs.getincrementaldecoder("utf-8")().decode

    def mark(self) -> str:
        """Return the next non-blank character; empty at the end."""
        while True:
            if found := _INK.search(self._text, self.at):
                self.at = found.start()
                return found[0]
            self.at = len(self._text)
            if not self._more():
                return ""

    def take(self, marks: str) -> str:
        """Consume one of the characters, and return it."""
        found = self.mark()
        if not found:
            raise self._cut()
        if found not in marks:
            raise self.malformed(self.at, "expecting " + " or ".join(marks))
        self.at += 1
        return found

    def value(self) -> Any:
        """Consume a value, and return it."""
        while True:
            text, at = self._text, self.at
            try:
                value, end = scan(text, at)
            except (ValueError, StopIteration, RecursionError) as error:
                self.mark()  # only now: usually there is no blank before the value
                if self._text is not text or self.at != at or self._more():
                    continue
                raise self._error(error) from error
            if end < len(self._text) or not self._more():  # more of a number might follow
                break
        self._check(value, end)
        self.at = end
        return value

    def values(self) -> Iterator[Any]:
        """Consume the values of a list and its end, counting them as records."""
        while True:
            value = self.value()
            self.done += 1
            yield value
            if comma := _NEXT.match(self._text, self.at):  # fast path
                self.at = comma.end()
            elif self.take(",]") == "]":
                return

    def end(self) -> None:
        """Check that only blanks are left."""
        if self.mark():
            raise self.malformed(self.at, "something follows the end")
        if self._fault:
            raise self._cut()

    def malformed(self, at: int, why: str, hint: str = AGAIN) -> DataError:
        """Return the error for invalid JSON at a position in the buffer."""
        place = self._place(at, 1)
        return DataError(f"{self.path} is not valid JSON {place}: {why}", hint=hint)

    def _more(self) -> bool:
        """Read more text into the buffer; False at the end or at the limit."""
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
            # first read what is before: it may contain records, or another error
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
        # a cheap upper bound, because few records come near the limit
        levels = text.count("[", at, end) + text.count("{", at, end)
        if levels > DEPTH_LIMIT and _is_deep(value):
            raise self._refused(f"nested more than {DEPTH_LIMIT} levels deep")
        if self._escaped and _HALF.search(text, at, end):
            try:
                json.dumps(value, ensure_ascii=False).encode()
            except UnicodeEncodeError as error:
                raise self._refused("not text: it contains a lone surrogate") from error

    def _error(self, error: Exception) -> DataError:
        if isinstance(error, RecursionError):
            return self._refused(f"nested more than {DEPTH_LIMIT} levels deep")
        if isinstance(error, StopIteration):
            at, why = error.value, "expecting a value"
        elif isinstance(error, json.JSONDecodeError):
            at, why = error.pos, error.msg[0].lower() + error.msg[1:]
        else:
            # Python limits the number of digits that int() converts
            why = str(error)
            return self._refused(f"invalid: it contains {BEYOND if 'digits' in why else why}")
        if why.startswith("unterminated string") or _TAIL.match(self._text, at):
            return self._cut()
        return self.malformed(at, why)

    def _refused(self, problem: str) -> DataError:
        where = self.inside or f"record {self.done + 1}"
        return DataError(
            f"{self.path}, {where} is {problem}", hint="correct the record or leave it out"
        )

    def _cut(self) -> DataError:
        """Return the error for truncated text."""
        if not self._ended:
            return self._refused(f"longer than {RECORD_LIMIT // _MEGABYTE} MB")
        if self._fault:
            return self.malformed(len(self._text), f"not UTF-8 ({self._fault})", UTF_8)
        return DataError(
            f"{self.path} is truncated {self._place(len(self._text), 0)}",
            hint="the file is incomplete: download it again",
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
