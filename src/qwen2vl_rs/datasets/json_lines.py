"""Read JSON Lines; errors name the line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from ..errors import UTF_8, DataError
from ..system.named_files import open_named
from ..system.oserrors import ABSENT, unreadable

_LONGEST_LINE = 1 << 20  # bytes
_GIVE = "name a JSON Lines file, such as eval/after/predictions.jsonl of a run"


def json_lines(path: Path, hint: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line numbers (from 1) and objects of a JSON Lines file.

    Empty lines and a byte order mark are skipped.

    Args:
        path: the file.
        hint: example of a line, for errors.

    Raises:
        DataError: the file cannot be read, or a line is not a JSON object or longer than a MiB.
    """
    try:
        with open_named(path, "rb") as file:
            number = 0
            while line := file.readline(_LONGEST_LINE + 1):
                number += 1
                if len(line) > _LONGEST_LINE:
                    fail_line(path, number, "longer than a MiB", hint)
                if line.removeprefix(b"\xef\xbb\xbf").strip():
                    yield number, _record(line, path, number, hint)
    except (*ABSENT, IsADirectoryError) as error:
        raise DataError(f"cannot read {path}: {error.strerror}", hint=_GIVE) from error
    except OSError as error:
        raise unreadable(path, error) from error


def fail_line(path: Path, number: int, what: str, hint: str) -> NoReturn:
    """Raise the error for one line.

    Raises:
        DataError: always.
    """
    raise DataError(f"{path}, line {number}: {what}", hint=hint)


def _record(line: bytes, path: Path, number: int, hint: str) -> dict[str, Any]:
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        fail_line(path, number, (number == 1 and _other_file(line)) or "not UTF-8", UTF_8)
    except (ValueError, RecursionError) as error:
        other = _other_file(line) if number == 1 else ""
        fail_line(path, number, other or f"not JSON ({_reason(error)})", hint)
    if not isinstance(record, dict):
        fail_line(path, number, f"expected an object, not {record!r:.40}", hint)
    return record


def _other_file(line: bytes) -> str:
    """Guess the format of a file that is not JSON Lines from its first line; else empty."""
    if line.startswith(b"\x1f\x8b"):
        return "this is a gzip file; unpack it first: gunzip"
    if line.startswith(b"PK"):
        return "this is a zip file (or .npz); unpack it first"
    if line.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in line[:64]:
        return "this looks like UTF-16; save the file as UTF-8"
    if line.lstrip().startswith(b"["):
        return "this is one JSON list, not one object per line; with jq: jq -c '.[]' FILE"
    if b"," in line and b"{" not in line:
        return "this looks like CSV without the column prediction"
    return ""


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error).lower()
