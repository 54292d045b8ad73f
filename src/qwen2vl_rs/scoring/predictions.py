"""Read and write ``predictions.jsonl``: one answered question per line; reads other tools' too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..datasets.base import Dataset
from ..datasets.file_forms import form_of
from ..datasets.file_opening import sniff
from ..datasets.json_lines import fail_line, json_lines
from ..datasets.reading import read_samples
from ..errors import DataError
from ..known_datasets import dataset_name
from ..questions.grammar import question_type
from ..questions.reply import CAUSES
from ..system.files import atomic_write
from ..system.jsonl import to_line
from ..types import Prediction, Sample
from .foreign_predictions import records, to_our_fields
from .joining import ForeignAnswer, join_predictions

_HINT = 'each line must be an object like {"question": "…", "answer": "…", "prediction": "…"}'
_ASKED_HINT = 'each line must be an object like {"question": "…", "answer": "…"}'


def read_predictions(path: Path, questions: Dataset | None = None) -> list[Prediction]:
    """Read predictions; a line needs only ``question``, ``answer`` and ``prediction``.

    A missing ``type`` is derived from the question; ``dataset`` selects the classes. ``id``,
    ``answer`` and ``prediction`` may be whole numbers, ``prediction`` may be null (no answer), and
    ``confidence`` is a probability or null. Other keys, empty lines and a byte order mark are
    ignored. Results of other tools, including tables, are read as `record_forms.PREDICTIONS`.

    Args:
        path: the file.
        questions: the test set, which provides questions, answers, types and images; None to take
            them from the file.

    Raises:
        DataError: the file cannot be read or is empty, a line is not such an object, is longer than
            a MiB or has a duplicate id, or the predictions do not match the questions.
    """
    found: list[ForeignAnswer] = []
    seen: set[str] = set()
    for number, record in records(path, _HINT):
        fields, form = to_our_fields(record)
        if form and questions is None and not fields.get("question"):
            problem = f"a {form.name} line without its question"
            fail_line(path, number, problem, "name the test set: --questions FILE")
        one = _prediction(fields, path, number, alone=questions is None)
        if one.id and one.id in seen:
            fail_line(path, number, f"duplicate id {one.id}", _HINT)
        seen.add(one.id)
        prompt, by_number = fields.get("prompt"), bool(form and form.by_number)
        found.append(
            ForeignAnswer(number, one, prompt if isinstance(prompt, str) else "", by_number)
        )
    if not found:
        raise DataError(f"{path} contains no predictions", hint=_HINT)
    return (
        [a.prediction for a in found]
        if questions is None
        else join_predictions(path, found, questions)
    )


def read_questions(path: Path | None) -> Dataset | None:
    """Read the test set that predictions are joined to; None without a path.

    Raises:
        DataError: see `read_samples`.
    """
    return read_samples(path, with_images=False) if path else None


def prediction_of(record: Mapping[str, Any], number: int) -> Prediction:
    """Create a prediction from a record in memory; see `read_predictions`.

    Args:
        record: the record.
        number: number of the record, for messages.

    Raises:
        DataError: the record is invalid.
    """
    fields, _ = to_our_fields(dict(record))
    return _prediction(fields, Path("the records"), number, alone=True)


def read_training(path: Path, dataset: str | None = None) -> Iterator[Sample]:
    """Read training questions for the baselines.

    Supported are the formats of `read_samples`, and JSON Lines with ``question`` and ``answer``,
    optionally ``image`` and ``type``.

    Raises:
        DataError: the file cannot be read, or contains no question.
    """
    if form_of(sniff(path)):
        yield from read_samples(path, with_images=False, dataset=dataset)
        return
    number = 0
    for number, record in json_lines(path, _ASKED_HINT):
        fields = _fields(record, _ASKED_KEYS, path, number, _ASKED_HINT)
        yield Sample(**fields)
    if not number:
        raise DataError(f"{path} contains no questions", hint=_ASKED_HINT)


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write ``predictions.jsonl`` atomically.

    Raises:
        RunError: the file cannot be written.
    """
    with atomic_write(path) as file:
        file.writelines(to_line(as_record(p)) for p in predictions)


def as_record(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction as JSON record, without empty optional fields."""
    return {k: v for k, v in asdict(prediction).items() if v or k not in _OPTIONAL}


_OPTIONAL = ("unreadable", "dataset")
_ASKED_KEYS = ("id", "image", "question", "type", "answer")
_MAY_BE_NUMBERS = ("id", "answer", "prediction")


def _fields(
    record: dict[str, Any], keys: Iterable[str], path: Path, number: int, hint: str
) -> dict[str, str]:
    """Return the texts of some keys; question and answer must not be empty."""
    for key in ("question", "answer"):
        if key not in record:
            fail_line(path, number, f"{key} is missing", hint)
    fields = {key: _text(record.get(key), key, path, number, hint) for key in keys}
    if not fields["question"].strip() or not fields["answer"].strip():
        fail_line(path, number, "question and answer must not be empty", hint)
    return fields


def _prediction(record: dict[str, Any], path: Path, number: int, *, alone: bool) -> Prediction:
    """Parse a line; unless ``alone``, its question comes from the test set."""
    if "prediction" not in record:
        fail_line(path, number, "prediction is missing", _HINT)
    keys = (*_ASKED_KEYS, "prediction", "text")
    if alone:
        fields = _fields(record, keys, path, number, _HINT)
        fields["type"] = fields["type"] or question_type(fields["question"])
    else:
        there = [key for key in keys if record.get(key) is not None]
        found = {key: _text(record[key], key, path, number, _HINT) for key in there}
        fields = dict.fromkeys(keys, "") | found
    # other tools may use these keys for something else
    cause = record.get("unreadable")
    fields["unreadable"] = cause if isinstance(cause, str) and cause in CAUSES else ""
    fields["dataset"] = dataset_name(record.get("dataset"))
    return Prediction(**fields, confidence=_confidence(record.get("confidence"), path, number))


def _text(value: Any, key: str, path: Path, number: int, hint: str) -> str:
    if value is None and key not in ("question", "answer"):
        return ""
    number_like = isinstance(value, int | float) and not isinstance(value, bool)
    if number_like and key in _MAY_BE_NUMBERS and value % 1 == 0:
        return str(int(value))
    if not isinstance(value, str):
        whole = "text or a whole number" if key in _MAY_BE_NUMBERS else "text"
        fail_line(path, number, f"{key} must be {whole}, not {value!r:.40}", hint)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:  # valid JSON, but cannot be written as UTF-8
        fail_line(path, number, f"{key} contains a lone surrogate: {value!r:.40}", hint)
    return value


def _confidence(value: Any, path: Path, number: int) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        why = f"confidence must be between 0 and 1, or null, not {value!r:.40}"
        fail_line(path, number, why, _HINT)
    return float(value)
