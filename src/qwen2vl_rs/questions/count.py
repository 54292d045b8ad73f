"""How many are there?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..types import UNKNOWN
from .numbers import BUCKETS, bucket
from .question_type import Quantity


@dataclass(frozen=True)
class Count(Quantity):
    """An integer; in RSVQA-LR an official bucket of it."""

    name: str = "count"
    other_names: tuple[str, ...] = ("counting",)
    exact_numbers: bool = True
    templates: tuple[re.Pattern[str], ...] = (
        re.compile(r"how many (.+?)(?: are there)?"),
        re.compile(r"what is the (?:number|amount) of (.+)"),
    )

    def official_class(self, normal: str, dataset: str) -> str:
        """RSVQA-LR's buckets (Lobry et al. 2020); exact elsewhere."""
        return bucket(int(normal)) if dataset == "LR" and normal.isdecimal() else normal

    def candidates(self, dataset: str) -> Sequence[str]:
        """The buckets; of RSVQA-HR 0 to 89 (Lobry et al. 2020)."""
        if dataset == UNKNOWN:
            return ()
        return [str(n) for n in range(90)] if dataset == "HR" else BUCKETS
