"""``predictions.jsonl``: one answered question a line, ours or anyone's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from ..datasets.file_forms import form_of
from ..datasets.file_opening import opening
from ..datasets.reading import read_samples
from ..errors import UTF_8, DataError
from ..known_datasets import dataset_name
from ..questions.grammar import question_type
from ..questions.reply import CAUSES
from ..system.files import atomic_write
from ..system.jsonl import to_line
from ..system.named import open_named
from ..system.oserrors import ABSENT, unreadable
from ..types import Prediction, Sample

_LONGEST_LINE = 1 << 20  # bytes
_HINT = 'each line is an object like {"question": "…", "answer": "…", "prediction": "…"}'
_ASKED_HINT = 'each line is an object like {"question": "…", "answer": "…"}'


def read_predictions(path: Path) -> list[Prediction]:
    """Read predictions; ``question``, ``answer`` and ``prediction`` are all a line needs.

    A missing ``type`` is derived from the question; ``dataset`` names the data set whose classes
    apply. ``id``, ``answer`` and ``prediction`` may
    be whole numbers, ``prediction`` null (no answer), and ``confidence`` is a probability or
    null. Other keys are ignored, as are empty lines and a byte order mark.

    Raises:
        DataError: the file cannot be read, holds no line, or a line (its number is named) is
            not such an object, is longer than a MiB, or repeats an earlier id.
    """
    found: list[Prediction] = []
    seen: set[str] = set()
    for number, record in _records(path, _HINT):
        one = _prediction(record, path, number)
        if one.id and one.id in seen:
            _fail(path, number, f"id {one.id} stands on an earlier line too", _HINT)
        seen.add(one.id)
        found.append(one)
    if not found:
        raise DataError(f"{path} holds no predictions", hint=_HINT)
    return found


def prediction_of(record: Mapping[str, Any], number: int) -> Prediction:
    """A prediction from a record in memory; see `read_predictions`.

    Args:
        record: the values by their names.
        number: of the record, for people.

    Raises:
        DataError: it is not such a record.
    """
    return _prediction(dict(record), Path("the records"), number)


def read_training(path: Path, dataset: str | None = None) -> Iterator[Sample]:
    """Training questions for the controls, from any file that holds them.

    What `read_samples` reads (conversations, CSV, official question files), and JSON Lines with
    ``question`` and ``answer``, where known also ``image`` and ``type``.

    Raises:
        DataError: the file cannot be read or used, or holds no question.
    """
    if form_of(opening(path)):
        yield from read_samples(path, with_images=False, dataset=dataset)
        return
    number = 0
    for number, record in _records(path, _ASKED_HINT):
        fields = _fields(record, _ASKED_KEYS, path, number, _ASKED_HINT)
        yield Sample(**fields)
    if not number:
        raise DataError(f"{path} holds no questions", hint=_ASKED_HINT)


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write ``predictions.jsonl``, whole or not at all.

    Raises:
        RunError: the folder cannot be written to.
    """
    with atomic_write(path) as file:
        file.writelines(to_line(as_record(p)) for p in predictions)


def as_record(prediction: Prediction) -> dict[str, Any]:
    """A prediction as it is written down: what need not be said is left out."""
    return {k: v for k, v in asdict(prediction).items() if v or k not in _OPTIONAL}


_OPTIONAL = ("unreadable", "dataset")
_ASKED_KEYS = ("id", "image", "question", "type", "answer")
_MAY_BE_NUMBERS = ("id", "answer", "prediction")


def _fail(path: Path, number: int, what: str, hint: str) -> NoReturn:
    raise DataError(f"{path}, line {number}: {what}", hint=hint)


def _records(path: Path, hint: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file of JSON Lines with their line numbers."""
    try:
        with open_named(path, "rb") as file:
            number = 0
            while line := file.readline(_LONGEST_LINE + 1):
                number += 1
                if len(line) > _LONGEST_LINE:
                    _fail(path, number, "longer than a MiB", hint)
                if line.removeprefix(b"\xef\xbb\xbf").strip():
                    yield number, _record(line, path, number, hint)
    except (*ABSENT, IsADirectoryError) as error:
        hint = "give a file of JSON Lines, as eval/after/predictions.jsonl of a run"
        raise DataError(f"cannot read {path}: {error.strerror}", hint=hint) from error
    except OSError as error:
        raise unreadable(path, error) from error


def _record(line: bytes, path: Path, number: int, hint: str) -> dict[str, Any]:
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        _fail(path, number, (number == 1 and _other_file(line)) or "not UTF-8", UTF_8)
    except (ValueError, RecursionError) as error:
        other = _other_file(line) if number == 1 else ""
        _fail(path, number, other or f"not JSON ({_reason(error)})", hint)
    if not isinstance(record, dict):
        _fail(path, number, f"an object is expected, not {record!r:.40}", hint)
    return record


def _other_file(line: bytes) -> str:
    """What a file that is no JSON Lines looks like, by its first line; else empty."""
    if line.startswith(b"\x1f\x8b"):
        return "this is a gzip file; unpack it first: gunzip"
    if line.startswith(b"PK"):
        return "this is a zip file (or .xlsx, .npz); unpack it first"
    if line.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in line[:64]:
        return "this looks like UTF-16; save the file as UTF-8"
    if line.lstrip().startswith(b"["):
        return "this is one JSON list, not one object a line; with jq: jq -c '.[]' FILE"
    if b"," in line and b"{" not in line:
        return "this looks like CSV, not JSON Lines"
    return ""


def _fields(
    record: dict[str, Any], keys: Iterable[str], path: Path, number: int, hint: str
) -> dict[str, str]:
    """The texts of a record under some keys; question and answer must not be empty."""
    for key in ("question", "answer"):
        if key not in record:
            _fail(path, number, f"{key} is missing", hint)
    fields = {key: _text(record.get(key), key, path, number, hint) for key in keys}
    if not fields["question"].strip() or not fields["answer"].strip():
        _fail(path, number, "question and answer must not be empty", hint)
    return fields


def _prediction(record: dict[str, Any], path: Path, number: int) -> Prediction:
    if "prediction" not in record:
        _fail(path, number, "prediction is missing", _HINT)
    fields = _fields(record, (*_ASKED_KEYS, "prediction", "text"), path, number, _HINT)
    fields["type"] = fields["type"] or question_type(fields["question"])
    # other programs may use these names for something else
    cause = record.get("unreadable")
    fields["unreadable"] = cause if isinstance(cause, str) and cause in CAUSES else ""
    fields["dataset"] = dataset_name(record.get("dataset"))
    return Prediction(**fields, confidence=_confidence(record.get("confidence"), path, number))


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error).lower()


def _text(value: Any, key: str, path: Path, number: int, hint: str) -> str:
    if value is None and key not in ("question", "answer"):
        return ""
    number_like = isinstance(value, int | float) and not isinstance(value, bool)
    if number_like and key in _MAY_BE_NUMBERS and value % 1 == 0:
        return str(int(value))
    if not isinstance(value, str):
        whole = "text or a whole number" if key in _MAY_BE_NUMBERS else "text"
        _fail(path, number, f"{key} must be {whole}, not {value!r:.40}", hint)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate is valid JSON, but can never be written again
        _fail(path, number, f"{key} holds half a character: {value!r:.40}", hint)
    return value


def _confidence(value: Any, path: Path, number: int) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        why = f"confidence must lie between 0 and 1, or be null, not {value!r:.40}"
        _fail(path, number, why, _HINT)
    return float(value)
