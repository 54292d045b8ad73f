"""Question types of VRSBench: open answers, correct if they contain the ground truth."""

from __future__ import annotations

from dataclasses import dataclass

from .numbers import scan
from .question_type import QuestionType
from .yes_no import yes_no


@dataclass(frozen=True)
class OpenAnswer(QuestionType):
    """One to three words: an object, a colour, a position, a number, yes or no.

    The rule is that of VRSBench (Li et al., NeurIPS 2024, its published evaluation) without a judge
    model: in lower case, yes, no and numbers up to 99 must be equal; any other ground truth must be
    a substring of the answer. Synonyms, which the judge model accepts, are wrong.
    """

    rule: str = "contains"

    def normalise(self, answer: str) -> str | None:
        """Return ``yes``, ``no``, a number in digits (``three`` → ``3``), or the cleaned text."""
        return yes_no(answer, presence=False) or _number(answer) or answer or None

    def score(self, gold: str | None, predicted: str | None) -> float:
        """Return 1 if the answer contains the ground truth, else 0."""
        if gold is None or predicted is None:
            return 0.0
        exact = gold in ("yes", "no") or (gold.isdecimal() and int(gold) < 100)
        return float(gold == predicted if exact else gold in predicted)


def _number(answer: str) -> str:
    """Return a one-word answer as number; empty if it is not a number."""
    found = scan(answer)
    alone = found is not None and len(found.values) == 1 and len(answer.split()) == 1
    return f"{found.values[0]:g}" if alone and found else ""
