"""Is it rural or urban?"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .clean import doubted, negated, words_of
from .question_type import QuestionType
from .wording import word_set

_WEAKENED = word_set("far less almost nearly")


@dataclass(frozen=True)
class RuralUrban(QuestionType):
    """``rural`` or ``urban``: ``no`` never stands for either."""

    name: str = "rural_urban"
    other_names: tuple[str, ...] = ("urbanrural", "ruralorurban", "urbanorrural")
    words: tuple[str, ...] = ("rural", "urban")
    shown: str = "urban"
    templates: tuple[re.Pattern[str], ...] = (
        re.compile(r"is (?:it|this)\b.*\b(?:rural or (?:an )?urban|urban or (?:a )?rural)\b.*"),
    )

    def normalise(self, answer: str) -> str | None:
        """The one of both words that is said, unless it is denied or doubted."""
        words = words_of(answer)
        named = words & set(self.words)
        if len(named) != 1 or words & _WEAKENED or negated(words) or doubted(answer, words):
            return None
        return named.pop()
