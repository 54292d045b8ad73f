"""Question type ``LC``: list of land covers. RSVQAxBEN ("RSVQA Meets BigEarthNet", IGARSS 2021)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .question_type import QuestionType

# CORINE and BigEarthNet class names that contain a comma or "and"
_WHOLE = (
    "land principally occupied by agriculture, with significant areas of natural vegetation",
    "road and rail networks and associated land",
    "industrial, commercial and transport units",
    "mine, dump and construction sites",
    "artificial, non-agricultural vegetated areas",
    "fruit trees and berry plantations",
    "sport and leisure facilities",
    "moors, heathland and sclerophyllous vegetation",
    "moors and heathland",
    "natural grassland and sparsely vegetated areas",
    "beaches, dunes, sands",
    "beaches, dunes, and sand plains",
    "forest and semi natural areas",
    "forest and semi-natural areas",
    "forests and semi-natural areas",
    "forests and semi natural areas",
)
_PARTS = re.compile(rf"((?:{'|'.join(map(re.escape, _WHOLE))})(?!\w)|.+?)(?:,? and |, |$)")


@dataclass(frozen=True)
class LandCover(QuestionType):
    """A list of CORINE classes; exact match compares the string, F1 ignores the order."""

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
        """Return the cleaned text."""
        return answer or None

    def parts(self, normal: str) -> frozenset[str]:
        """Return the listed classes; ``None`` counts as one."""
        return frozenset(_PARTS.findall(normal))
