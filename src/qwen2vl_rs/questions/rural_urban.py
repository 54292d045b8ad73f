"""Question type ``rural_urban``: is it rural or urban?"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .clean import is_hedged, is_negated, words_of
from .question_type import QuestionType
from .wording import word_set

_WEAKENED = word_set("far less almost nearly")


@dataclass(frozen=True)
class RuralUrban(QuestionType):
    """``rural`` or ``urban``; ``no`` is neither."""

    name: str = "rural_urban"
    other_names: tuple[str, ...] = ("urbanrural", "ruralorurban", "urbanorrural")
    choices: tuple[str, ...] = ("rural", "urban")
    map_value: str = "urban"
    templates: tuple[re.Pattern[str], ...] = (
        re.compile(r"is (?:it|this)\b.*\b(?:rural or (?:an )?urban|urban or (?:a )?rural)\b.*"),
    )

    def normalise(self, answer: str) -> str | None:
        """Return the word that the answer contains, unless it is negated or hedged."""
        words = words_of(answer)
        named = words & set(self.choices)
        if len(named) != 1 or words & _WEAKENED or is_negated(words) or is_hedged(answer, words):
            return None
        return named.pop()
