"""A file of questions is opened, and how it begins tells its form."""

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
from .image_paths import absent

_HEAD = 1 << 16  # bytes that are looked at
_RECORDS = 64  # of them, at most
_LINE = 1 << 20  # bytes of a first line that are looked at
_MEGABYTE, _SHOWN = 1_000_000, 60
_BLANKS = " \t\n\r"
AGAIN = "fetch or write the file again"
_BOM = b"\xef\xbb\xbf"
_FOREIGN = {
    b"\x1f\x8b": ("compressed with gzip", "unpack it: gunzip -c FILE > NEW"),
    b"PK\x03\x04": ("a zip archive or a spreadsheet", "unpack it, or save it as CSV UTF-8"),
    b"\xff\xfe": ("UTF-16", "save it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE > NEW"),
    b"\xfe\xff": ("UTF-16", "save it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE > NEW"),
}


class _Metered(NamedFile):
    """A file that moves a progress bar, in megabytes, as it is read."""

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
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading bytes, behind its byte order mark, with a progress bar.

    Raises:
        DataError: it is missing, empty, no regular file, compressed, UTF-16, or unreadable.
    """
    try:
        status = path.stat()
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            # a pipe would wait for a writer, a device might never end
            raise DataError(f"{path} is not a regular file", hint="save it as a file, name that")
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
        raise absent(path) from error
    except OSError as error:
        hint = reading_hint(error, "name a file that you may read")
        raise DataError(f"cannot read {path}: {error.strerror or error}", hint=hint) from error


def is_workbook(path: Path) -> bool:
    """Whether a file is a spreadsheet as Excel and LibreOffice write them (.xlsx)."""
    with contextlib.suppress(OSError, ValueError, zipfile.BadZipFile):
        if is_file(path):
            with zipfile.ZipFile(path) as archive:
                return "xl/workbook.xml" in archive.namelist()
    return False


class Opening(NamedTuple):
    """How a file begins.

    Attributes:
        kind: ``list``, ``object``, or ``text`` for what is no JSON: tables.
        key: the first key of the object.
        first: the first record of the list, or what stands at the first key; None where it is
            longer than what is looked at (64 KiB).
        more: the records or members behind it, as far as is looked at.
        line: the first line (up to a MiB), where that is JSON: the file may be JSON Lines.
    """

    kind: str
    key: str | None = None
    first: Any = None
    more: tuple[Any, ...] = ()
    line: Any = None

    def has(self, *keys: str) -> bool:
        """Whether one of the records has these fields: the first may lack one."""
        wanted = set(keys)
        return any(isinstance(one, dict) and wanted <= one.keys() for one in self.records)

    @property
    def records(self) -> list[Any]:
        """All that are looked at; of members that are lists, what these hold."""
        values = (self.first, *self.more)
        return [one for value in values for one in (value if type(value) is list else [value])]

    @property
    def record(self) -> dict[str, Any]:
        """The first record of a list or of JSON Lines; an empty one where it is not known."""
        found = self.first if self.kind == "list" else self.line
        return found if isinstance(found, dict) else {}


def opening(path: Path) -> Opening:
    """How a file begins.

    Raises:
        DataError: the file is missing, empty, or cannot be read.
    """
    if is_workbook(path):
        return Opening("text")
    with opened(path) as file:
        begin = file.read(_HEAD)
        # a record may be longer, of JSON Lines too
        rest = b"" if b"\n" in begin.lstrip() else file.readline(_LINE)
    head = begin.decode(errors="replace").lstrip(_BLANKS)
    if not head.startswith(("[", "{")):
        return Opening("text")
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
        return Opening("list", None, first, tuple(more))
    line = None
    with contextlib.suppress(ValueError, RecursionError):
        line = json.loads((begin + rest).decode(errors="replace").lstrip().partition("\n")[0])
    return Opening("object", short(key) if isinstance(key, str) else None, first, tuple(more), line)


def _ink(text: str, start: int) -> int:
    """The first place that is not blank."""
    return len(text) - len(text[start:].lstrip(_BLANKS))


def require(path: Path, key: str | None) -> None:
    """Check that a file begins as ``{"<key>": …`` or, without a key, as a list.

    Raises:
        DataError: it begins otherwise, or is missing, empty, or cannot be read.
    """
    expected = f'an object with the key "{key}"' if key else "a list"
    kind, found, *_ = opening(path)
    if (kind, found) == (("object", key) if key else ("list", None)):
        return
    said = {"list": "a list", "text": "no JSON object or list"}.get(kind, "an object without keys")
    if found is not None:
        said = f'an object with the key "{found}"'
    if not key:
        hint = "write it with: qwen2vl-rs csv2json"
    elif found in {"questions", "answers"}:
        hint = "are the questions and the answers swapped?"
    else:
        hint = f"name the file that RSVQA publishes as …{key}.json"
    raise DataError(f"{path} holds {said}, expected {expected}", hint=hint)


def short(text: str) -> str:
    """The beginning of a text from a file, fit for one line of a message."""
    shown = " ".join(text[:_SHOWN].encode(errors="replace").decode().split())
    return shown + "…" * (len(text) > _SHOWN)


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name}, which is no JSON")


# the scanner itself: a method between it and the loop would cost a tenth of the speed
_make: Any = json.scanner.make_scanner
scan: Callable[[str, int], tuple[Any, int]] = _make(json.JSONDecoder(parse_constant=_constant))
