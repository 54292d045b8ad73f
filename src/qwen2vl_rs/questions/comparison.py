"""Are there more of one than of the other, less, or as many?"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .question_type import QuestionType
from .yes_no import yes_no


@dataclass(frozen=True)
class Comparison(QuestionType):
    """``yes`` or ``no``."""

    name: str = "comp"
    other_names: tuple[str, ...] = ("comparison", "compare")
    words: tuple[str, ...] = ("yes", "no")
    shown: str = "yes"
    templates: tuple[re.Pattern[str], ...] = (
        re.compile(r"(?:are|is) there (?P<comparator>less|fewer|more) (.+) than (.+)"),
        re.compile(r"is the number of (.+) (?P<comparator>equal) to the number of (.+)"),
    )

    def normalise(self, answer: str) -> str | None:
        """``yes`` or ``no``."""
        return yes_no(answer, presence=False)
