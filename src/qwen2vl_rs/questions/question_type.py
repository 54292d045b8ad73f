"""What there is to know of a type of questions: all of it in one class, a file for each type.

A new type is one file with a subclass, and its place in `registry.OFFICIAL`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from .clean import doubted, negated
from .numbers import quantity, scan
from .yes_no import existence, yes_no

NUMBER, CLASS = "number", "class"
"""What a map draws of answers, where it is not the probability of a word."""


RULES = {
    "contains": "open answers are right where they hold the true one, by VRSBench's rule without a "
    "judge: synonyms are wrong",
}


@dataclass(frozen=True)
class QuestionType:
    """A type of questions; as it stands here, one that no file says anything of.

    Attributes:
        name: as stored with questions and printed in tables.
        other_names: in files in use; letters decide, not case or signs.
        templates: patterns of the plain wording (`wording.plain`) of its questions, whose groups
            are what is asked about; a group ``comparator`` tells comparisons apart.
        words: the answers there are, where there are two; each question has one of them.
        shown: what a map draws: the probability of one of ``words``, `NUMBER` or `CLASS`.
        counted_by_geochat: whether GeoChat's protocol counts its questions.
        by_dataset: whether its official classes depend on the data set.
        exact_numbers: whether errors of its numbers are told beside accuracies.
        rule: by which its answers are judged, where that is told beside accuracies (`RULES`).
        by_question: whether each question says what it can be answered with, see `of_question`.
        in_parts: whether names such as ``NAME/part`` are parts of it, with figures of their own.
    """

    name: str
    other_names: tuple[str, ...] = ()
    templates: tuple[re.Pattern[str], ...] = ()
    words: tuple[str, ...] = ()
    shown: str = CLASS
    counted_by_geochat: bool = True
    by_dataset: bool = False
    exact_numbers: bool = False
    rule: str = ""
    by_question: bool = False
    in_parts: bool = False

    def of_question(self, question: str) -> QuestionType:
        """The type as one question has it, with the ``words`` that this one offers."""
        return self

    def normalise(self, answer: str) -> str | None:
        """The normal form of a cleaned answer (`clean.clean`); None of what is not one answer.

        Normal forms are their own normal forms.
        """
        if self.words:
            return answer if answer in self.words else None
        return yes_no(answer, presence=False) or answer or None

    def may_go_on(self, answer: str) -> bool:
        """Whether more may have followed an answer that was cut off behind what can be read."""
        return not self.words

    def official_class(self, normal: str, dataset: str) -> str:
        """The class of a normal form, in a data set (``LR``, ``HR``, ``xBEN``, ``unknown``)."""
        return normal

    def candidates(self, dataset: str) -> Sequence[str]:
        """What can be answered, where no training answers say it; none where that is not known."""
        return self.words

    def score(self, gold: str | None, predicted: str | None) -> float:
        """How right a class is, from 0 to 1; None, an answer that cannot be read, never is."""
        return float(gold is not None and gold == predicted)

    def parts(self, normal: str) -> frozenset[str] | None:
        """What an answer lists, of which F1 is told beside accuracies; None if it is no list."""
        return None

    def number(self, normal: str) -> float:
        """The number that a map draws of a normal form; NaN where there is none."""
        return math.nan


@dataclass(frozen=True)
class YesNo(QuestionType):
    """A type whose answers are ``yes`` and ``no``."""

    words: tuple[str, ...] = ("yes", "no")
    shown: str = "yes"

    def normalise(self, answer: str) -> str | None:
        """``yes`` or ``no``."""
        return yes_no(answer, presence=False)


@dataclass(frozen=True)
class Quantity(QuestionType):
    """A type whose answers are numbers.

    Attributes:
        unit: behind each number; empty for none.
    """

    shown: str = NUMBER
    counted_by_geochat: bool = False
    by_dataset: bool = True
    unit: str = ""

    def normalise(self, answer: str) -> str | None:
        """An integer with the unit (``47``, ``624m2``), or an official bucket.

        ``none`` is no number: it is what a missing answer looks like once printed, and a quarter
        to a half of all counts are zero.
        """
        found = scan(answer)
        if found is None:
            return None
        if not found.values:
            return f"0{self.unit}" if existence(answer) == "no" else None
        words = set(found.words)
        doubtful = negated(words) or doubted(found.template, words)
        return None if doubtful else quantity(found, self.unit)

    def may_go_on(self, answer: str) -> bool:
        """Digits may follow digits."""
        return answer.rstrip()[-1:].isdigit()

    def number(self, normal: str) -> float:
        """Of a bucket its lower end."""
        found = scan(normal)
        return float(found.values[0]) if found and found.values else math.nan
