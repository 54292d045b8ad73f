"""Join predictions of other tools to the questions of the test set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..config import InputConfig
from ..datasets.base import Dataset
from ..errors import DataError
from ..instruction import bare_question
from ..questions.grammar import question_type
from ..system.console import counted, say
from ..types import Prediction, Sample

_LINES = 32  # lines of a question with instruction and options
_HINT = "--questions must name the test set of these predictions, in the same order"


@dataclass(frozen=True, slots=True)
class ForeignAnswer:
    """A line of a prediction file.

    Attributes:
        number: line number.
        prediction: content of the line; missing fields are empty.
        prompt: the whole prompt, which contains the question; empty if unknown.
        by_number: whether the id is the index of the question in the test set, from 0.
    """

    number: int
    prediction: Prediction
    prompt: str = ""
    by_number: bool = False


def join_predictions(
    path: Path, answers: Sequence[ForeignAnswer], questions: Dataset
) -> list[Prediction]:
    """Return predictions with all fields but the model's answer taken from the test set.

    Lines are joined by id if the test set contains all ids; else by index, if ids are numbers from
    0; else by order, if there are as many lines as questions. In any case, all texts must match.

    Args:
        path: the prediction file, for messages.
        answers: its lines; at least one.
        questions: the test set.

    Raises:
        DataError: the lines do not match; the message names the first difference.
    """
    known = {name: k for k, name in enumerate(questions.table.column("id").to_pylist())}
    why = ""
    for rows, places in _ways(answers, known):
        if not (difference := _difference(path, rows, places, questions)):
            return _predictions(path, rows, places, questions)
        why = why or difference
    lines, asked = counted(len(answers), "line"), counted(len(questions), "question")
    why = why or f"{path} has {lines}, but the test set has {asked}"
    strange = [a for a in answers if a.prediction.id not in known]
    if 0 < len(strange) < len(answers):
        first = strange[0]
        why += f"; the id of line {first.number} is not in it ({first.prediction.id or 'empty'})"
    raise DataError(why, hint=_HINT)


def _ways(
    answers: Sequence[ForeignAnswer], known: Mapping[str, int]
) -> Iterator[tuple[Sequence[ForeignAnswer], Sequence[int]]]:
    """Yield possible assignments of answers to questions, the most reliable first."""
    if all(answer.prediction.id in known for answer in answers):
        yield answers, [known[answer.prediction.id] for answer in answers]
    if all(answer.by_number and answer.prediction.id.isdecimal() for answer in answers):
        # several processes may write them in any order
        answers = sorted(answers, key=lambda answer: int(answer.prediction.id))
        numbers = [int(answer.prediction.id) for answer in answers]
        if numbers[-1] < len(known):
            yield answers, numbers
    if len(answers) == len(known):
        yield answers, range(len(answers))


def _difference(
    path: Path, answers: Sequence[ForeignAnswer], places: Sequence[int], questions: Dataset
) -> str:
    """Describe the first line that does not match its question; empty if all match."""
    for answer, sample in zip(answers, questions.take(np.array(places)), strict=True):
        if not (answer.prediction.question or answer.prompt or answer.prediction.answer):
            return f"{path}, line {answer.number}: neither a question nor an answer to compare"
        for what, matches, expected in _texts(answer, sample):
            if not matches:
                return (
                    f"{path}, line {answer.number}: its {what} is not that of question "
                    f"{sample.id} ({expected!r:.80})"
                )
    return ""


def _texts(answer: ForeignAnswer, sample: Sample) -> list[tuple[str, bool, str]]:
    """Return the compared fields: name, whether it matches, and the text in the test set."""
    found = []
    if answer.prediction.answer:
        found.append(
            ("answer", _plain(answer.prediction.answer) == _plain(sample.answer), sample.answer)
        )
    if answer.prediction.question or answer.prompt:
        what = "question" if answer.prediction.question else "prompt"
        found.append((what, _asks(answer, sample.question), sample.question))
    return found


def _asks(answer: ForeignAnswer, question: str) -> bool:
    """Whether a line is about a question; instruction or options may surround it."""
    asked = bare_question(question, InputConfig().instruction)
    if answer.prompt and _plain(asked) in _plain(answer.prompt):
        return True
    text = answer.prediction.question
    return bool(text) and (_plain(asked) in _ends(text) or _plain(text) in _ends(asked))


def _ends(text: str) -> set[str]:
    """Return all leading and trailing groups of lines of a text."""
    lines = text.split("\n")
    ends = (part for k in range(1, _LINES) for part in (lines[:k], lines[-k:]))
    return {_plain(text), *(_plain("\n".join(part)) for part in ends)} - {""}


def _plain(text: str) -> str:
    """Normalise what tools change in texts: case, blanks, and ``< image>`` for a mark."""
    return " ".join(text.casefold().replace("< ", "<").split())


def _predictions(
    path: Path, answers: Sequence[ForeignAnswer], places: Sequence[int], questions: Dataset
) -> list[Prediction]:
    found = [
        replace(
            answer.prediction,
            id=asked.id,
            image=asked.image,
            question=asked.question,
            type=asked.type or question_type(asked.question),
            answer=asked.answer,
            dataset=asked.dataset,
        )
        for answer, asked in zip(answers, questions.take(np.array(places)), strict=True)
    ]
    if left := len(questions) - len(found):
        say(f"{path}: {left:,} of {counted(len(questions), 'question')} without an answer")
    return found
