"""Question type ``area``: the area covered by something, in square metres."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..known_datasets import all_datasets, bucketed
from .numbers import AREA_BUCKETS, bucket
from .question_type import Quantity


@dataclass(frozen=True)
class Area(Quantity):
    """Square metres (``624m2``), or an official bucket."""

    name: str = "area"
    unit: str = "m2"
    templates: tuple[re.Pattern[str], ...] = (re.compile(r"what is the area covered by (.+)"),)

    def official_class(self, normal: str, dataset: str) -> str:
        """Return the official bucket (Lobry et al. 2020) if the data set has them; else exact."""
        value = normal.removesuffix(self.unit)
        within = self.name in bucketed(dataset) and value.isdecimal()
        return bucket(int(value), self.unit) if within else normal

    def candidates(self, dataset: str) -> Sequence[str]:
        """Return the candidates of the data set, or its buckets."""
        found = all_datasets().get(dataset)
        buckets = AREA_BUCKETS if self.name in bucketed(dataset) else ()
        return found.answers.get(self.name, buckets) if found else ()
