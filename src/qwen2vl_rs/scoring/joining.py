"""Answers of other programs, joined to the questions of the test set that they were asked."""

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

_LINES = 32  # of a question, its instruction and its choices
_HINT = "--questions names the very questions that were asked, in the order of the answers"


@dataclass(frozen=True, slots=True)
class Answer:
    """A line of predictions.

    Attributes:
        number: of the line.
        said: what it says; what it does not say is empty.
        prompt: all that the model was given, which holds the question; empty where it is unknown.
        by_number: whether the id is the number of the question in the test set, from 0 on.
    """

    number: int
    said: Prediction
    prompt: str = ""
    by_number: bool = False


def joined(path: Path, answers: Sequence[Answer], questions: Dataset) -> list[Prediction]:
    """The predictions, with all but the model's answer taken from the test set.

    They are joined by id where the test set knows that of every line; else by number, where ids
    are numbers from 0; else by order, where there are as many lines as questions. Whichever way,
    all texts must agree.

    Args:
        path: of the answers.
        answers: at least one.
        questions: the test set.

    Raises:
        DataError: they do not fit; the first difference is named.
    """
    known = {name: k for k, name in enumerate(questions.table.column("id").to_pylist())}
    why = ""
    for rows, places in _ways(answers, known):
        if not (said := _difference(path, rows, places, questions)):
            return _predictions(path, rows, places, questions)
        why = why or said
    lines, asked = counted(len(answers), "line"), counted(len(questions), "question")
    why = why or f"{path} has {lines}, but the test set has {asked}"
    strange = [a for a in answers if a.said.id not in known]
    if 0 < len(strange) < len(answers):
        first = strange[0]
        why += f"; that of line {first.number} is not in it (id {first.said.id or 'empty'})"
    raise DataError(why, hint=_HINT)


def _ways(
    answers: Sequence[Answer], known: Mapping[str, int]
) -> Iterator[tuple[Sequence[Answer], Sequence[int]]]:
    """How the answers may belong to the questions, the surest way first."""
    if all(answer.said.id in known for answer in answers):
        yield answers, [known[answer.said.id] for answer in answers]
    if all(answer.by_number and answer.said.id.isdecimal() for answer in answers):
        # several processes write them as they come
        answers = sorted(answers, key=lambda answer: int(answer.said.id))
        numbers = [int(answer.said.id) for answer in answers]
        if numbers[-1] < len(known):
            yield answers, numbers
    if len(answers) == len(known):
        yield answers, range(len(answers))


def _difference(
    path: Path, answers: Sequence[Answer], places: Sequence[int], questions: Dataset
) -> str:
    """The first line that is about another question than its own; empty where none is."""
    for answer, sample in zip(answers, questions.take(np.array(places)), strict=True):
        if not (answer.said.question or answer.prompt or answer.said.answer):
            return f"{path}, line {answer.number}: neither a question nor an answer to compare"
        for what, said, asked in _texts(answer, sample):
            if not said:
                return (
                    f"{path}, line {answer.number}: its {what} is not that of question "
                    f"{sample.id} ({asked!r:.80})"
                )
    return ""


def _texts(answer: Answer, sample: Sample) -> list[tuple[str, bool, str]]:
    """What is compared: its name, whether it agrees, and what the test set says."""
    found = []
    if answer.said.answer:
        found.append(("answer", _plain(answer.said.answer) == _plain(sample.answer), sample.answer))
    if answer.said.question or answer.prompt:
        what = "question" if answer.said.question else "prompt"
        found.append((what, _asks(answer, sample.question), sample.question))
    return found


def _asks(answer: Answer, question: str) -> bool:
    """Whether a line asks a question: an instruction or choices may stand before or behind it."""
    asked = bare_question(question, InputConfig().instruction)
    if answer.prompt and _plain(asked) in _plain(answer.prompt):
        return True
    said = answer.said.question
    return bool(said) and (_plain(asked) in _ends(said) or _plain(said) in _ends(asked))


def _ends(text: str) -> set[str]:
    """The whole lines with which a text begins, and those with which it ends."""
    lines = text.split("\n")
    ends = (part for k in range(1, _LINES) for part in (lines[:k], lines[-k:]))
    return {_plain(text), *(_plain("\n".join(part)) for part in ends)} - {""}


def _plain(text: str) -> str:
    """A text without what programs change in it: case, blanks, and ``< image>`` for a mark."""
    return " ".join(text.casefold().replace("< ", "<").split())


def _predictions(
    path: Path, answers: Sequence[Answer], places: Sequence[int], questions: Dataset
) -> list[Prediction]:
    found = [
        replace(
            answer.said,
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
