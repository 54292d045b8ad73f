"""Question type ``comp``: are there more, fewer or equally many of one thing than of another?"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .question_type import YesNo


@dataclass(frozen=True)
class Comparison(YesNo):
    """``yes`` or ``no`` to a comparison of two counts."""

    name: str = "comp"
    other_names: tuple[str, ...] = ("comparison", "compare")
    templates: tuple[re.Pattern[str], ...] = (
        re.compile(r"(?:are|is) there (?P<comparator>less|fewer|more) (.+) than (.+)"),
        re.compile(r"is the number of (.+) (?P<comparator>equal) to the number of (.+)"),
    )
