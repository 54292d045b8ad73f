"""Parts of a model that are trained each in its own way: language model, vision tower, merger."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, get_args

from .family import Family

Part = Literal["language model", "vision tower", "merger"]
PARTS: tuple[Part, ...] = get_args(Part)


def part_of(family: Family, name: str) -> Part:
    """Return the part of a module or weight, by its name in any file layout or in PEFT's model."""
    below = f"{name}."
    if re.fullmatch(family.merger_layers, below):
        return "merger"
    return "vision tower" if re.fullmatch(family.vision_layers, below) else "language model"


def blocks_of(family: Family, part: Part, weights: Iterable[str]) -> list[str]:
    """Return the modules that together hold all weights of the vision tower or the merger.

    They are as large as PEFT can wrap: a list of blocks has no forward pass, but each block has.

    Args:
        family: the family.
        part: the part.
        weights: names of all weights in the network.
    """
    found: dict[str, None] = {}
    for name in weights:
        block = re.match(family.vision_blocks, name)
        if block and part_of(family, name) == part:
            found[block[1]] = None
    return list(found)
