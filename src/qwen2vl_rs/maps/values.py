"""Map values of answers: probability, number or class."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..questions.grammar import question_type
from ..questions.normal_forms import normalise
from ..questions.question_type import NUMBER, QuestionType
from ..questions.registry import type_named
from ..raster import Layer

Kind = Literal["probability", "number", "class"]
MOST_CLASSES = 12
OTHER = "(other)"


@dataclass(frozen=True, slots=True)
class Band:
    """The answers to one question.

    Attributes:
        question: the question.
        kind: what the values are.
        of: the answer whose probability is shown; empty for other kinds.
        values: (rows, columns) float32; NaN for windows without an answer or without a value.
        classes: names of the values 0, 1, …; empty for other kinds.
        unreadable: number of answers without a value.
    """

    question: str
    kind: Kind
    of: str
    values: NDArray[np.float32]
    classes: tuple[str, ...]
    unreadable: int

    @property
    def layer(self) -> Layer:
        """Return the band as written to a file."""
        tags: dict[str, str] = {"kind": self.kind}
        if self.of:
            tags["of"] = self.of
        if self.classes:
            tags["classes"] = "|".join(self.classes)
        return Layer(self.question, tags, self.values, smooth=self.kind == "probability")


def kind_of(question: str) -> Kind:
    """Return what the map shows for a question."""
    type = type_named(question_type(question))
    if type.map_value in type.choices:
        return "probability"
    return "number" if type.map_value == NUMBER else "class"


def band(question: str, replies: Sequence[Any], shape: tuple[int, int]) -> Band:
    """Convert the answers to one question to values on a grid.

    Args:
        question: the question.
        replies: one per window, row by row: None, or ``text`` and ``shares`` by name.
        shape: (rows, columns).
    """
    type, kind = type_named(question_type(question)), kind_of(question)
    classes: tuple[str, ...] = ()
    if kind == "probability":
        found = [r["shares"][type.map_value] if r else math.nan for r in replies]
    elif kind == "number":
        found = [_number(r["text"], type) if r else math.nan for r in replies]
    else:
        texts = [(normalise(r["text"], type.name, question) or "") if r else "" for r in replies]
        common = [text for text, _ in Counter(filter(None, texts)).most_common(MOST_CLASSES)]
        rare = any(text and text not in common for text in texts)
        classes = (*sorted(common), *((OTHER,) if rare else ()))
        codes = {text: float(i) for i, text in enumerate(classes)}
        found = [codes.get(t, codes.get(OTHER, math.nan)) if t else math.nan for t in texts]
    values = np.array(found, dtype=np.float32).reshape(shape)
    unreadable = sum(r is not None and math.isnan(v) for r, v in zip(replies, found, strict=True))
    of = type.map_value if kind == "probability" else ""
    return Band(question, kind, of, values, classes, unreadable)


def _number(text: str, type: QuestionType) -> float:
    """Return a count or an area in square metres (lower end of a bucket); NaN for other text."""
    normal = normalise(text, type.name)
    return type.number(normal) if normal else math.nan
