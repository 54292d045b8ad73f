"""Answers of EarthVQA (Wang et al., AAAI 2024): a class, a share of the area, or a list."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .clean import doubted, negated, words_of
from .question_type import CLASS, Quantity, QuestionType
from .rural_urban import RuralUrban
from .yes_no import yes_no

_SHARE = re.compile(r"(\d+) ?%? ?(?:-|–|~|to|and) ?(\d+) ?%")
_LEAD = re.compile(
    r"^(?:there (?:is|are|exists?)|(?:it|this|they|these) (?:is|are)|"
    r"the (?:image|scene) (?:contains|has|shows)) "
)
_JOINTS = re.compile(r"\s*(?:[,;&]|\band\b)\s*")
_ARTICLE = re.compile(r"^(?:an?|the|some) (?=.)")
_NOUN = re.compile(r"(?<=.) (?:areas?|lands?|zones?|regions?)$")


def share_of_area(answer: str) -> str | None:
    """``10%-20%``, however it is spelt, or ``0%``; None where there is not one such share."""
    found, words = _SHARE.findall(answer), words_of(answer)
    numbers = re.findall(r"\d+(?:\.\d+)?", answer)
    if negated(words) or doubted(answer, words):
        return None
    if len(found) == 1 and list(found[0]) == numbers:
        return "{}%-{}%".format(*numbers)
    return f"{numbers[0]}%" if len(numbers) == 1 and f"{numbers[0]}%" == answer else None


def listed(answer: str) -> str | None:
    """The parts of a sentence that is a list, sorted: it says the same in any order.

    ``There are residential, and industrial areas`` → ``industrial, residential``. What is denied
    stays in one piece.
    """
    text = _LEAD.sub("", answer, count=1)
    if negated(words_of(_JOINTS.split(text)[0])):
        return text or None
    parts = {_NOUN.sub("", _ARTICLE.sub("", part)) for part in _JOINTS.split(text)}
    return ", ".join(sorted(filter(None, parts))) or None


@dataclass(frozen=True)
class Judging(QuestionType):
    """Yes or no, rural or urban."""

    def normalise(self, answer: str) -> str | None:
        """The one of the four words that is said."""
        return yes_no(answer, presence=False) or RuralUrban().normalise(answer)


@dataclass(frozen=True)
class NumberOrShare(Quantity):
    """A number of objects, or a share of the area."""

    shown: str = CLASS
    by_dataset: bool = False
    exact_numbers: bool = True

    def normalise(self, answer: str) -> str | None:
        """A number in digits, or ``10%-20%``."""
        return share_of_area(answer) or super().normalise(answer)


@dataclass(frozen=True)
class ListedAnswer(QuestionType):
    """A sentence, compared as the set of what it lists."""

    def normalise(self, answer: str) -> str | None:
        """``yes`` or ``no``, ``10%-20%``, or what is listed."""
        return yes_no(answer, presence=False) or share_of_area(answer) or listed(answer)

    def parts(self, normal: str) -> frozenset[str]:
        """What the sentence lists."""
        return frozenset(filter(None, normal.split(", ")))
