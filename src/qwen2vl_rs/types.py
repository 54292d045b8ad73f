"""Records shared by all packages: `Sample` (a question) and `Prediction` (its answer)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

UNKNOWN = "unknown"
"""Name of the data set if neither a setting nor the file gives it."""


def canonical_manner(value: str) -> str:
    """Return the current name of a generation manner; old files have ``sane`` for ``corrected``."""
    return "corrected" if value == "sane" else value


@dataclass(frozen=True, slots=True)
class Sample:
    """One question about one image, with its ground truth.

    Attributes:
        id: unique within a file, e.g. ``rsvqa_1``.
        image: path of the image file.
        question: question text as stored (including RSVQA's double spaces).
        answer: ground truth as stored, e.g. ``yes``, ``47``, ``624m2``.
        type: question type as stored (``presence``, ``count``, …); empty if unknown.
        dataset: name of a known data set (``LR``, ``HR``, ``xBEN``, …), which selects the classes;
            empty if unknown.
        manner: for questions made by `generate`: ``corrected``, ``legacy`` or ``balanced``.
    """

    id: str
    image: str
    question: str
    answer: str
    type: str = ""
    dataset: str = ""
    manner: str = ""


@runtime_checkable
class Columnar(Protocol):
    """A table of questions that counts values without creating records."""

    def counts(self, *names: str) -> Mapping[tuple[str, ...], int]:
        """Count each combination of values of some columns, in order of first occurrence."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One line of ``predictions.jsonl``.

    Attributes:
        id, image, question, type, answer: as in `Sample`; ``id`` and ``image`` may be empty in
            files of other tools.
        prediction: normal form of the model's answer; its text if it has no normal form.
        text: the model's answer, verbatim.
        confidence: probability of ``text`` under the model; None if unknown.
        unreadable: why the text cannot be read, one of `questions.reply.CAUSES`; empty if it can
            be read or was not checked.
        dataset: as in `Sample`.
    """

    id: str
    image: str
    question: str
    type: str
    answer: str
    prediction: str
    text: str = ""
    confidence: float | None = None
    unreadable: str = ""
    dataset: str = ""
