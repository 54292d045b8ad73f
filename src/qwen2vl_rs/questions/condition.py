"""Question type ``condition``: flooded or not. FloodNet (Rahnemoonfar et al., IEEE Access 2021)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .clean import is_hedged, is_negated, words_of
from .question_type import QuestionType

_DENIED = {"non", "non-flooded", "nonflooded", "unflooded"}


@dataclass(frozen=True)
class Condition(QuestionType):
    """``flooded`` or ``non flooded``: the condition of an image or of its roads."""

    name: str = "condition"
    other_names: tuple[str, ...] = ("conditionrecognition",)
    choices: tuple[str, ...] = ("flooded", "non flooded")
    map_value: str = "flooded"
    templates: tuple[re.Pattern[str], ...] = (
        re.compile(r"what is the (?:overall )?condition of (?:the )?(?:given )?(.+)"),
    )

    def normalise(self, answer: str) -> str | None:
        """Return the condition; None if the answer is hedged or states both."""
        words = words_of(answer)
        if is_hedged(answer, words) or not words & {"flooded", *_DENIED}:
            return None
        denied = bool(words & _DENIED) or is_negated(words)
        if denied and answer.count("flooded") > 1:
            return None
        return "non flooded" if denied else "flooded"
