"""Base class of question types: templates, normal form, classes, candidates, score, map value.

A new question type is one file with a subclass, registered in `registry.OFFICIAL`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from .clean import is_hedged, is_negated
from .numbers import quantity, scan
from .yes_no import existence, yes_no

NUMBER, CLASS = "number", "class"
"""What a map draws if it is not the probability of a choice."""


RULES = {
    "contains": "open answers are correct if they contain the ground truth (VRSBench's rule "
    "without a judge model): synonyms are wrong",
}


@dataclass(frozen=True)
class QuestionType:
    """A question type; the base class itself is a type without any knowledge.

    Attributes:
        name: name stored with questions and printed in tables.
        other_names: names in existing files; only letters matter, not case or punctuation.
        templates: patterns of the plain wording (`wording.plain`) of its questions, whose groups
            are the objects asked about; a group ``comparator`` distinguishes comparisons.
        choices: the possible answers of a type with a fixed set, such as yes and no.
        map_value: what a map draws: the probability of one of ``choices``, `NUMBER` or `CLASS`.
        counted_by_geochat: whether GeoChat's protocol scores it.
        by_dataset: whether its official classes depend on the data set.
        exact_numbers: whether numeric errors are reported beside accuracies.
        rule: scoring rule to print beside accuracies (`RULES`), if any.
        has_options: whether each question contains its possible answers, see `of_question`.
        has_subtypes: whether names such as ``NAME/part`` are subtypes, reported separately.
    """

    name: str
    other_names: tuple[str, ...] = ()
    templates: tuple[re.Pattern[str], ...] = ()
    choices: tuple[str, ...] = ()
    map_value: str = CLASS
    counted_by_geochat: bool = True
    by_dataset: bool = False
    exact_numbers: bool = False
    rule: str = ""
    has_options: bool = False
    has_subtypes: bool = False

    def of_question(self, question: str) -> QuestionType:
        """Return the type with the ``choices`` of one question."""
        return self

    def normalise(self, answer: str) -> str | None:
        """Return the normal form of a cleaned answer (`clean.clean`); None if it is not clear.

        The function is idempotent.
        """
        if self.choices:
            return answer if answer in self.choices else None
        return yes_no(answer, presence=False) or answer or None

    def may_continue(self, answer: str) -> bool:
        """Whether a readable answer that was truncated might have continued."""
        return not self.choices

    def official_class(self, normal: str, dataset: str) -> str:
        """Return the class of a normal form in a data set (``LR``, ``HR``, …, ``unknown``)."""
        return normal

    def candidates(self, dataset: str) -> Sequence[str]:
        """Return the candidate answers without training answers; empty if unknown."""
        return self.choices

    def score(self, gold: str | None, predicted: str | None) -> float:
        """Return the score of a predicted class, from 0 to 1; None (unreadable) scores 0."""
        return float(gold is not None and gold == predicted)

    def parts(self, normal: str) -> frozenset[str] | None:
        """Return the listed items, for F1; None if answers of this type are not lists."""
        return None

    def number(self, normal: str) -> float:
        """Return the number that a map draws for a normal form; NaN if there is none."""
        return math.nan


@dataclass(frozen=True)
class YesNo(QuestionType):
    """A question type with the answers ``yes`` and ``no``."""

    choices: tuple[str, ...] = ("yes", "no")
    map_value: str = "yes"

    def normalise(self, answer: str) -> str | None:
        """Return ``yes`` or ``no``."""
        return yes_no(answer, presence=False)


@dataclass(frozen=True)
class Quantity(QuestionType):
    """A question type with numeric answers.

    Attributes:
        unit: suffix of each number; may be empty.
    """

    map_value: str = NUMBER
    counted_by_geochat: bool = False
    by_dataset: bool = True
    unit: str = ""

    def normalise(self, answer: str) -> str | None:
        """Return an integer with the unit (``47``, ``624m2``), or an official bucket.

        ``none`` is not a number: a missing answer may be printed so, and a quarter to a half of all
        counts are zero.
        """
        found = scan(answer)
        if found is None:
            return None
        if not found.values:
            return f"0{self.unit}" if existence(answer) == "no" else None
        words = set(found.words)
        unclear = is_negated(words) or is_hedged(found.template, words)
        return None if unclear else quantity(found, self.unit)

    def may_continue(self, answer: str) -> bool:
        """Return True after a digit: more digits might follow."""
        return answer.rstrip()[-1:].isdigit()

    def number(self, normal: str) -> float:
        """Return the number; for a bucket, its lower bound."""
        found = scan(normal)
        return float(found.values[0]) if found and found.values else math.nan
