"""Are there more of one than of the other, less, or as many?"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .question_type import YesNo


@dataclass(frozen=True)
class Comparison(YesNo):
    """Whether the numbers of two kinds of things are so."""

    name: str = "comp"
    other_names: tuple[str, ...] = ("comparison", "compare")
    templates: tuple[re.Pattern[str], ...] = (
        re.compile(r"(?:are|is) there (?P<comparator>less|fewer|more) (.+) than (.+)"),
        re.compile(r"is the number of (.+) (?P<comparator>equal) to the number of (.+)"),
    )
