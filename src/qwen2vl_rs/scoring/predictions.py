"""``predictions.jsonl``: one answered question a line, ours or anyone's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..datasets.base import Dataset
from ..datasets.file_forms import form_of
from ..datasets.file_opening import opening
from ..datasets.json_lines import fail_line, json_lines
from ..datasets.reading import read_samples
from ..errors import DataError
from ..known_datasets import dataset_name
from ..questions.grammar import question_type
from ..questions.reply import CAUSES
from ..system.files import atomic_write
from ..system.jsonl import to_line
from ..types import Prediction, Sample
from .foreign_predictions import ours, records
from .joining import Answer, joined

_HINT = 'each line is an object like {"question": "…", "answer": "…", "prediction": "…"}'
_ASKED_HINT = 'each line is an object like {"question": "…", "answer": "…"}'


def read_predictions(path: Path, questions: Dataset | None = None) -> list[Prediction]:
    """Read predictions; ``question``, ``answer`` and ``prediction`` are all a line needs.

    A missing ``type`` is derived from the question; ``dataset`` names the data set whose classes
    apply. ``id``, ``answer`` and ``prediction`` may
    be whole numbers, ``prediction`` null (no answer), and ``confidence`` is a probability or
    null. Other keys are ignored, as are empty lines and a byte order mark. Results of other
    programs, tables too, are read by `record_forms.PREDICTIONS`.

    Args:
        path: the file.
        questions: the test set, from which questions, answers, types and images are taken; None:
            from the file.

    Raises:
        DataError: the file cannot be read, holds no line, or a line (its number is named) is
            not such an object, is longer than a MiB, or repeats an earlier id; or it does not
            fit the questions.
    """
    found: list[Answer] = []
    seen: set[str] = set()
    for number, record in records(path, _HINT):
        fields, form = ours(record)
        if form and questions is None and not fields.get("question"):
            said = f"a line of {form.name} without its question"
            fail_line(path, number, said, "name the test set: --questions FILE")
        one = _prediction(fields, path, number, alone=questions is None)
        if one.id and one.id in seen:
            fail_line(path, number, f"id {one.id} stands on an earlier line too", _HINT)
        seen.add(one.id)
        prompt, by_number = fields.get("prompt"), bool(form and form.by_number)
        found.append(Answer(number, one, prompt if isinstance(prompt, str) else "", by_number))
    if not found:
        raise DataError(f"{path} holds no predictions", hint=_HINT)
    return [a.said for a in found] if questions is None else joined(path, found, questions)


def read_questions(path: Path | None) -> Dataset | None:
    """The test set that predictions are joined to; None where none is named.

    Raises:
        DataError: see `read_samples`.
    """
    return read_samples(path, with_images=False) if path else None


def prediction_of(record: Mapping[str, Any], number: int) -> Prediction:
    """A prediction from a record in memory; see `read_predictions`.

    Args:
        record: the values by their names.
        number: of the record, for people.

    Raises:
        DataError: it is not such a record.
    """
    fields, _ = ours(dict(record))
    return _prediction(fields, Path("the records"), number, alone=True)


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
    for number, record in json_lines(path, _ASKED_HINT):
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


def _fields(
    record: dict[str, Any], keys: Iterable[str], path: Path, number: int, hint: str
) -> dict[str, str]:
    """The texts of a record under some keys; question and answer must not be empty."""
    for key in ("question", "answer"):
        if key not in record:
            fail_line(path, number, f"{key} is missing", hint)
    fields = {key: _text(record.get(key), key, path, number, hint) for key in keys}
    if not fields["question"].strip() or not fields["answer"].strip():
        fail_line(path, number, "question and answer must not be empty", hint)
    return fields


def _prediction(record: dict[str, Any], path: Path, number: int, *, alone: bool) -> Prediction:
    """What a line says; where it does not stand ``alone``, its question comes from elsewhere."""
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
    # other programs may use these names for something else
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
    except UnicodeEncodeError:  # a lone surrogate is valid JSON, but can never be written again
        fail_line(path, number, f"{key} holds half a character: {value!r:.40}", hint)
    return value


def _confidence(value: Any, path: Path, number: int) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        why = f"confidence must lie between 0 and 1, or be null, not {value!r:.40}"
        fail_line(path, number, why, _HINT)
    return float(value)
