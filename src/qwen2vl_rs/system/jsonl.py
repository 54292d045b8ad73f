"""Strict JSON, and JSON Lines files that are appended to and read after a crash.

A process may be killed, or the power may fail, in the middle of a line. The file then ends with
half a line or, on some file systems, with NUL bytes. The lines before that are valid.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .named_files import read_bytes


def to_json(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON, without ``NaN`` and ``Infinity``, which are not JSON.

    Raises:
        ValueError: a number in it is not finite.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)


def to_line(value: Any) -> str:
    """Return a value as a JSON line; see `to_json`."""
    return to_json(value) + "\n"


def read_jsonl(path: Path, *fields: str) -> tuple[list[dict[str, Any]], int]:
    """Read the valid lines at the start of a file; return them and the offset of their end.

    A valid line ends with a line break and is a JSON object with the fields. Reading stops at
    the first invalid line. A missing file has no lines.

    Raises:
        OSError: the file exists and cannot be read.
    """
    try:
        content = read_bytes(path)
    except FileNotFoundError:
        return [], 0
    values: list[dict[str, Any]] = []
    end = 0
    for line in content.splitlines(keepends=True):
        try:
            if not line.endswith(b"\n"):
                break
            value = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            break
        if not isinstance(value, dict) or not value.keys() >= set(fields):
            break
        values.append(value)
        end += len(line)
    return values, end
