"""The records that travel between the packages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

UNKNOWN = "unknown"
"""The data set of questions of which nobody says it."""


def manner_named(value: str) -> str:
    """A manner of asking as it is called now; ``sane`` was the name of ``corrected`` in files."""
    return "corrected" if value == "sane" else value


@dataclass(frozen=True, slots=True)
class Sample:
    """One question about one image, with its true answer.

    Attributes:
        id: unique within a data set, e.g. ``rsvqa_1``.
        image: path of the image file.
        question: as stored (RSVQA's double spaces included).
        answer: the true answer as stored, e.g. ``yes``, ``47``, ``624m2``.
        type: ``presence``, ``count``, … as stored; empty where the source does not say.
        dataset: ``LR``, ``HR`` or ``xBEN``, whose classes apply; empty where the source does not
            say.
        manner: of asking, where `generate` made the question: ``corrected``, ``legacy`` or
            ``balanced``.
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
    """Questions as a table, which are counted without making a record of each."""

    def counts(self, *names: str) -> Mapping[tuple[str, ...], int]:
        """How often each combination of values occurs in some columns, in order."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One line of ``predictions.jsonl``.

    Attributes:
        id, image, question, type, answer: as in `Sample`; ``id`` and ``image`` may be empty in
            predictions that come from elsewhere.
        prediction: the normalised answer of the model, or its text where there is no norm.
        text: the answer as the model gave it.
        confidence: probability of ``text`` under the model, None where unknown.
        unreadable: why the text cannot be read, one of `questions.reply.CAUSES`; empty where it can
            be, or where nobody has looked.
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
