"""Is something there?"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .question_type import QuestionType
from .yes_no import yes_no


@dataclass(frozen=True)
class Presence(QuestionType):
    """``yes`` or ``no``, also in a sentence (``There is a road.``)."""

    name: str = "presence"
    words: tuple[str, ...] = ("yes", "no")
    shown: str = "yes"
    templates: tuple[re.Pattern[str], ...] = (
        re.compile(r"(?:is|are) there (?:some )?(.+)"),
        re.compile(r"is an? (.+) present"),
        re.compile(r"are (?:some )?(.+) present"),
    )

    def normalise(self, answer: str) -> str | None:
        """``yes`` or ``no``."""
        return yes_no(answer, presence=True)
