"""Question type ``presence``: is something there?"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .question_type import YesNo
from .yes_no import yes_no


@dataclass(frozen=True)
class Presence(YesNo):
    """``yes`` or ``no``, also in a sentence (``There is a road.``)."""

    name: str = "presence"
    templates: tuple[re.Pattern[str], ...] = (
        re.compile(r"(?:is|are) there (?:some )?(.+)"),
        re.compile(r"is an? (.+) present"),
        re.compile(r"are (?:some )?(.+) present"),
    )

    def normalise(self, answer: str) -> str | None:
        """Return ``yes`` or ``no``."""
        return yes_no(answer, presence=True)
