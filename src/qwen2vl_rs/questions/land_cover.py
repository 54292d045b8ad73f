"""Which land covers are there? Questions of RSVQAxBEN ("RSVQA Meets BigEarthNet", IGARSS 2021)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .question_type import QuestionType


@dataclass(frozen=True)
class LandCover(QuestionType):
    """A list of CORINE's classes, compared as a whole string."""

    name: str = "LC"
    other_names: tuple[str, ...] = ("landcover",)
    templates: tuple[re.Pattern[str], ...] = (
        re.compile(
            r"(?:besides|in addition to) (.+), (?:what|which) (?:land cover )?classes are"
            r"(?: there)?"
        ),
        re.compile(
            r"(?:what|which) (?:are all the )?(l[123] )?(?:land cover )?classes(?: are)?(?: there)?"
        ),
    )

    def normalise(self, answer: str) -> str | None:
        """The cleaned text."""
        return answer or None
