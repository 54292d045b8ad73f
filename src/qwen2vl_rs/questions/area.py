"""What is the area of something, in square metres?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..types import UNKNOWN
from .numbers import AREA_BUCKETS, bucket
from .question_type import Quantity


@dataclass(frozen=True)
class Area(Quantity):
    """Square metres (``624m2``), or an official bucket of them."""

    name: str = "area"
    unit: str = "m2"
    templates: tuple[re.Pattern[str], ...] = (re.compile(r"what is the area covered by (.+)"),)

    def official_class(self, normal: str, dataset: str) -> str:
        """The official buckets (Lobry et al. 2020); exact in a data set that is not known."""
        value = normal.removesuffix(self.unit)
        return bucket(int(value), "m2") if dataset != UNKNOWN and value.isdecimal() else normal

    def candidates(self, dataset: str) -> Sequence[str]:
        """The buckets."""
        return () if dataset == UNKNOWN else AREA_BUCKETS
