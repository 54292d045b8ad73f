"""Questions with an open answer of a few words, judged by whether it holds the true one."""

from __future__ import annotations

from dataclasses import dataclass

from .numbers import scan
from .question_type import QuestionType
from .yes_no import yes_no


@dataclass(frozen=True)
class OpenAnswer(QuestionType):
    """One to three words: an object, a colour, a position, also a number or yes and no.

    The rule of VRSBench (Li et al., NeurIPS 2024, its published evaluation) where no other model
    judges: in small letters, yes, no and the numbers up to 99 are compared as they are; any other
    true answer is right where it stands within the answer. Synonyms are wrong, which their judge
    grants.
    """

    rule: str = "contains"

    def normalise(self, answer: str) -> str | None:
        """``yes``, ``no``, a number in digits (``three`` is ``3``), or the cleaned text."""
        return yes_no(answer, presence=False) or _number(answer) or answer or None

    def score(self, gold: str | None, predicted: str | None) -> float:
        """Whether the answer holds the true one."""
        if gold is None or predicted is None:
            return 0.0
        exact = gold in ("yes", "no") or (gold.isdecimal() and int(gold) < 100)
        return float(gold == predicted if exact else gold in predicted)


def _number(answer: str) -> str:
    """The number that an answer of one word is; empty where it is none."""
    found = scan(answer)
    alone = found is not None and len(found.values) == 1 and len(answer.split()) == 1
    return f"{found.values[0]:g}" if alone and found else ""
