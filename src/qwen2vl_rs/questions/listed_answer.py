"""Question types of EarthVQA (Wang et al., AAAI 2024): judging, counting, lists."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .clean import is_hedged, is_negated, words_of
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
    """Return ``10%-20%``, in any spelling, or ``0%``; None if there is not exactly one share."""
    found, words = _SHARE.findall(answer), words_of(answer)
    numbers = re.findall(r"\d+(?:\.\d+)?", answer)
    if is_negated(words) or is_hedged(answer, words):
        return None
    if len(found) == 1 and list(found[0]) == numbers:
        return "{}%-{}%".format(*numbers)
    return f"{numbers[0]}%" if len(numbers) == 1 and f"{numbers[0]}%" == answer else None


def sort_items(answer: str) -> str | None:
    """Sort the items of a sentence that is a list, because their order has no meaning.

    ``There are residential, and industrial areas`` → ``industrial, residential``. A negated
    sentence is not split.
    """
    text = _LEAD.sub("", answer, count=1)
    if is_negated(words_of(_JOINTS.split(text)[0])):
        return text or None
    parts = {_NOUN.sub("", _ARTICLE.sub("", part)) for part in _JOINTS.split(text)}
    return ", ".join(sorted(filter(None, parts))) or None


@dataclass(frozen=True)
class Judging(QuestionType):
    """``yes`` or ``no``, ``rural`` or ``urban``."""

    def normalise(self, answer: str) -> str | None:
        """Return one of the four words."""
        return yes_no(answer, presence=False) or RuralUrban().normalise(answer)


@dataclass(frozen=True)
class NumberOrShare(Quantity):
    """A number of objects, or a share of the image area."""

    map_value: str = CLASS
    by_dataset: bool = False
    exact_numbers: bool = True

    def normalise(self, answer: str) -> str | None:
        """Return a number in digits, or ``10%-20%``."""
        return share_of_area(answer) or super().normalise(answer)


@dataclass(frozen=True)
class ListedAnswer(QuestionType):
    """A sentence that lists items, compared as a set."""

    def normalise(self, answer: str) -> str | None:
        """Return ``yes`` or ``no``, ``10%-20%``, or the sorted items."""
        return yes_no(answer, presence=False) or share_of_area(answer) or sort_items(answer)

    def parts(self, normal: str) -> frozenset[str]:
        """Return the listed items."""
        return frozenset(filter(None, normal.split(", ")))
