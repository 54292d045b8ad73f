"""Open a question file, and sniff its start to detect the format."""

from __future__ import annotations

import contextlib
import io
import json
import json.scanner
import stat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

from ..errors import DataError
from ..system.console import Progress
from ..system.named_files import NamedFile
from ..system.oserrors import is_file, reading_hint
from .image_paths import missing_file

_HEAD = 1 << 16  # bytes to sniff
_RECORDS = 64  # most records to sniff
_LINE = 1 << 20  # most bytes of the first line to sniff
_MEGABYTE, _SHOWN = 1_000_000, 60
_BLANKS = " \t\n\r"
AGAIN = "download or write the file again"
_BOM = b"\xef\xbb\xbf"
_FOREIGN = {
    b"\x1f\x8b": ("compressed with gzip", "unpack it: gunzip -c FILE > NEW"),
    b"PK\x03\x04": ("a zip archive or a spreadsheet", "unpack it, or save it as CSV UTF-8"),
    b"\xff\xfe": ("UTF-16", "save it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE > NEW"),
    b"\xfe\xff": ("UTF-16", "save it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE > NEW"),
}


class _Metered(NamedFile):
    """A file that advances a progress bar, in megabytes, while it is read."""

    def __init__(self, path: Path, bar: Progress) -> None:
        super().__init__(str(path))
        self._bar = bar
        self._read = 0

    def readinto(self, buffer: Any, /) -> int:
        n = super().readinto(buffer) or 0
        self._read += n
        self._bar.advance(self._read // _MEGABYTE - self._bar.done)
        return n


@contextlib.contextmanager
def open_questions(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading bytes, after its byte order mark, with a progress bar.

    Raises:
        DataError: the file is missing, empty, not a regular file, compressed, UTF-16, or
            unreadable.
    """
    try:
        status = path.stat()
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            # a pipe would wait for a writer, a device might never end
            raise DataError(f"{path} is not a regular file", hint="save it as a file first")
        total = status.st_size
        with (
            Progress(f"reading {path.name}", total // _MEGABYTE, "MB") as bar,
            io.BufferedReader(_Metered(path, bar), _HEAD) as file,
        ):
            if not total:
                raise DataError(f"{path} is empty", hint=AGAIN)
            start = file.peek(4)
            for magic, (kind, hint) in _FOREIGN.items():
                if start.startswith(magic):
                    raise DataError(f"{path} is {kind}", hint=hint)
            if start.startswith(_BOM):
                file.seek(len(_BOM))
            yield file
    except FileNotFoundError as error:
        raise missing_file(path) from error
    except OSError as error:
        hint = reading_hint(error, "name a file that you may read")
        raise DataError(f"cannot read {path}: {error.strerror or error}", hint=hint) from error


def is_workbook(path: Path) -> bool:
    """Whether a file is a spreadsheet of Excel or LibreOffice (.xlsx)."""
    with contextlib.suppress(OSError, ValueError, zipfile.BadZipFile):
        if is_file(path):
            with zipfile.ZipFile(path) as archive:
                return "xl/workbook.xml" in archive.namelist()
    return False


class FileStart(NamedTuple):
    """The start of a file.

    Attributes:
        kind: ``list`` or ``object`` for JSON; ``text`` for anything else, such as tables.
        key: first key of the object.
        first: first record of the list, or value of the first key; None if it is longer than
            64 KiB.
        more: following records or members within the first 64 KiB.
        line: first line (up to a MiB) if it is JSON: the file may be JSON Lines.
        columns: names of the columns of a table, where they are read (`tabular.with_columns`).
    """

    kind: str
    key: str | None = None
    first: Any = None
    more: tuple[Any, ...] = ()
    line: Any = None
    columns: tuple[str, ...] = ()

    def has(self, *keys: str) -> bool:
        """Whether any record has these fields; the first one may be incomplete."""
        wanted = set(keys)
        return any(isinstance(one, dict) and wanted <= one.keys() for one in self.records)

    @property
    def records(self) -> list[Any]:
        """All sniffed records, also that of the first line; lists as members are flattened."""
        values = (self.first, *self.more, *([] if self.line is None else [self.line]))
        return [one for value in values for one in (value if type(value) is list else [value])]

    @property
    def record(self) -> dict[str, Any]:
        """The first record of a list or of JSON Lines; empty if unknown."""
        found = self.first if self.kind == "list" else self.line
        return found if isinstance(found, dict) else {}


def sniff(path: Path) -> FileStart:
    """Read the start of a file.

    Raises:
        DataError: the file is missing, empty, or cannot be read.
    """
    if is_workbook(path):
        return FileStart("text")
    with open_questions(path) as file:
        begin = file.read(_HEAD)
        # a line of JSON Lines may be longer
        rest = b"" if b"\n" in begin.lstrip() else file.readline(_LINE)
    head = begin.decode(errors="replace").lstrip(_BLANKS)
    if not head.startswith(("[", "{")):
        return FileStart("text")
    key, values, end = None, list[Any](), 1
    with contextlib.suppress(ValueError, StopIteration, RecursionError):
        while len(values) < _RECORDS and (not values or head.startswith(",", end)):
            end = _ink(head, end + bool(values))
            if head.startswith("{"):
                name, end = scan(head, end)
                key = key if values else name
                end = head.index(":", end) + 1
            value, end = scan(head, _ink(head, end))
            values.append(value)
            end = _ink(head, end)
    first, *more = values or [None]
    if head.startswith("["):
        return FileStart("list", None, first, tuple(more))
    line = None
    with contextlib.suppress(ValueError, RecursionError):
        line = json.loads((begin + rest).decode(errors="replace").lstrip().partition("\n")[0])
    return FileStart(
        "object", short(key) if isinstance(key, str) else None, first, tuple(more), line
    )


def _ink(text: str, start: int) -> int:
    """Return the position of the next non-blank character."""
    return len(text) - len(text[start:].lstrip(_BLANKS))


def require(path: Path, key: str | None) -> None:
    """Check that a file begins with ``{"<key>": …`` or, without a key, is a list.

    Raises:
        DataError: it begins differently, or is missing, empty, or cannot be read.
    """
    expected = f'an object with the key "{key}"' if key else "a list"
    kind, found, *_ = sniff(path)
    if (kind, found) == (("object", key) if key else ("list", None)):
        return
    what = {"list": "a list", "text": "no JSON object or list"}.get(kind, "an object without keys")
    if found is not None:
        what = f'an object with the key "{found}"'
    if not key:
        hint = "write it with: qwen2vl-rs csv2json"
    elif found in {"questions", "answers"}:
        hint = "are the questions and the answers swapped?"
    else:
        hint = f"name the file that RSVQA publishes as …{key}.json"
    raise DataError(f"{path} contains {what}, expected {expected}", hint=hint)


def short(text: str) -> str:
    """Shorten a text from a file for one line of a message."""
    shown = " ".join(text[:_SHOWN].encode(errors="replace").decode().split())
    return shown + "…" * (len(text) > _SHOWN)


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name}, which is not JSON")


# the bare scanner: a wrapper method would cost a tenth of the speed
_make: Any = json.scanner.make_scanner
scan: Callable[[str, int], tuple[Any, int]] = _make(json.JSONDecoder(parse_constant=_constant))
