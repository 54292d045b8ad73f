"""JSON as others can read it, and JSON Lines that grow while work proceeds.

Whoever appends to such a file may be killed, or the power may fail, in the middle of a line; some
file systems then show a stretch of NULs, or nothing. What stands before that is sound.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .named_files import read_bytes


def to_json(value: Any, indent: int | None = None) -> str:
    """A value as JSON; never ``NaN`` or ``Infinity``, which are not JSON.

    Raises:
        ValueError: a number in it is not finite.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)


def to_line(value: Any) -> str:
    """A value as a line of JSON; see `to_json`."""
    return to_json(value) + "\n"


def read_jsonl(path: Path, *fields: str) -> tuple[list[dict[str, Any]], int]:
    """The objects of a file up to its last sound line, and the byte at which that line ends.

    A line counts when it ends in a line break and is a JSON object with the fields; the first
    that does not ends the file. An absent file has no lines.

    Raises:
        OSError: the file is there and cannot be read.
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
