"""Question type ``count``: how many are there?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..known_datasets import all_datasets, bucketed
from .numbers import BUCKETS, bucket
from .question_type import Quantity


@dataclass(frozen=True)
class Count(Quantity):
    """An integer; for RSVQA-LR, its official bucket."""

    name: str = "count"
    other_names: tuple[str, ...] = ("counting",)
    exact_numbers: bool = True
    templates: tuple[re.Pattern[str], ...] = (
        re.compile(r"how many (.+?)(?: are there)?"),
        re.compile(r"what is the (?:number|amount) of (.+)"),
    )

    def official_class(self, normal: str, dataset: str) -> str:
        """Return the official bucket if the data set has them (RSVQA-LR); else exact."""
        within = self.name in bucketed(dataset) and normal.isdecimal()
        return bucket(int(normal)) if within else normal

    def candidates(self, dataset: str) -> Sequence[str]:
        """Return the candidates of the data set (RSVQA-HR: 0 to 89), or its buckets."""
        found = all_datasets().get(dataset)
        buckets = BUCKETS if self.name in bucketed(dataset) else ()
        return found.answers.get(self.name, buckets) if found else ()
