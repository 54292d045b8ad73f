"""``predictions.jsonl``: one answered question a line, ours or anyone's."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from ..errors import DataError
from ..records import Prediction
from ..runs import atomic_write
from .grammar import question_type

_LONGEST_LINE = 1 << 20  # bytes
_HINT = 'each line is an object like {"question": "…", "answer": "…", "prediction": "…"}'


def read_predictions(path: Path) -> list[Prediction]:
    """Read predictions; ``question``, ``answer`` and ``prediction`` are all a line needs.

    A missing ``type`` is derived from the question. ``id``, ``answer`` and ``prediction`` may
    be whole numbers, ``prediction`` null (no answer), and ``confidence`` is a probability.
    Other keys are ignored, as are empty lines and a byte order mark.

    Raises:
        DataError: the file cannot be read, holds no line, or a line (its number is named) is
            not such an object, is longer than a MiB, or repeats an earlier id.
    """
    found: list[Prediction] = []
    seen: set[str] = set()
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(_LONGEST_LINE + 1):
                number += 1
                if len(line) > _LONGEST_LINE:
                    _fail(path, number, "longer than a MiB")
                if not line.removeprefix(b"\xef\xbb\xbf").strip():
                    continue
                one = _prediction(line, path, number)
                if one.id and one.id in seen:
                    _fail(path, number, f"id {one.id} stands on an earlier line too")
                seen.add(one.id)
                found.append(one)
    except OSError as error:
        raise DataError(
            f"cannot read {path}: {error.strerror}", hint="give a file of predictions, JSON Lines"
        ) from error
    if not found:
        raise DataError(f"{path} holds no predictions", hint=_HINT)
    return found


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write ``predictions.jsonl``, whole or not at all.

    Raises:
        RunError: the folder cannot be written to.
    """
    with atomic_write(path) as file:
        for p in predictions:
            file.write(json.dumps(asdict(p), ensure_ascii=False) + "\n")


def _fail(path: Path, number: int, what: str) -> NoReturn:
    raise DataError(f"{path}, line {number}: {what}", hint=_HINT)


def _prediction(line: bytes, path: Path, number: int) -> Prediction:
    try:
        record = json.loads(line.decode("utf-8-sig"))
        # A lone surrogate (\ud800) is valid JSON, but can never be written out again.
        line_out = json.dumps(record, ensure_ascii=False, allow_nan=False)
        line_out.encode("utf-8")
    except (ValueError, RecursionError) as error:
        _fail(path, number, f"not JSON ({_reason(error)})")
    if not isinstance(record, dict):
        _fail(path, number, f"an object is expected, not {record!r:.40}")
    fields: dict[str, str] = {}
    for key in ("question", "answer", "prediction"):
        if key not in record:
            _fail(path, number, f"{key} is missing")
    for key in ("id", "image", "question", "type", "answer", "prediction", "text"):
        fields[key] = _text(record.get(key), key, path, number)
    if not fields["question"].strip() or not fields["answer"].strip():
        _fail(path, number, "question and answer must not be empty")
    fields["type"] = fields["type"] or question_type(fields["question"])
    return Prediction(**fields, confidence=_confidence(record.get("confidence"), path, number))


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error).lower()


def _text(value: Any, key: str, path: Path, number: int) -> str:
    if value is None and key not in ("question", "answer"):
        return ""
    if isinstance(value, int) and not isinstance(value, bool) and key in _MAY_BE_NUMBERS:
        return str(value)
    if not isinstance(value, str):
        _fail(path, number, f"{key} must be text, not {value!r:.40}")
    return value


_MAY_BE_NUMBERS = ("id", "answer", "prediction")


def _confidence(value: Any, path: Path, number: int) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        _fail(path, number, f"confidence must lie between 0 and 1, not {value!r:.40}")
    return float(value)
