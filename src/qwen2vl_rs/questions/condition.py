"""Is it flooded? Questions of FloodNet (Rahnemoonfar et al., "FloodNet", IEEE Access 2021)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .clean import doubted, negated, words_of
from .question_type import QuestionType

_DENIED = {"non", "non-flooded", "nonflooded", "unflooded"}


@dataclass(frozen=True)
class Condition(QuestionType):
    """``flooded`` or ``non flooded``, of an image or of a road in it."""

    name: str = "condition"
    other_names: tuple[str, ...] = ("conditionrecognition",)
    words: tuple[str, ...] = ("flooded", "non flooded")
    shown: str = "flooded"
    templates: tuple[re.Pattern[str], ...] = (
        re.compile(r"what is the (?:overall )?condition of (?:the )?(?:given )?(.+)"),
    )

    def normalise(self, answer: str) -> str | None:
        """The one that is said, unless it is doubted, or both are said."""
        words = words_of(answer)
        if doubted(answer, words) or not words & {"flooded", *_DENIED}:
            return None
        denied = bool(words & _DENIED) or negated(words)
        if denied and answer.count("flooded") > 1:
            return None
        return "non flooded" if denied else "flooded"
