"""RSVQA-LR: Sentinel-2 tiles of the Netherlands (Lobry et al. 2020)."""

import re
from collections.abc import Mapping
from typing import Any

from ..known_datasets import KnownDataset, register


def is_product_tile(record: Mapping[str, Any]) -> bool:
    """Whether an image is a tile of a Sentinel-2 product: its name ends with the tile position."""
    return bool(re.search(r"_\d+-\d+\.tif$", str(record.get("original_name"))))


RSVQA_LR = register(
    KnownDataset(
        name="LR",
        title="RSVQA-LR",
        licence="CC BY 4.0",
        zenodo="6344334",
        splits=("train", "val", "test"),
        types=("presence", "count", "comp", "rural_urban"),
        prefixes=("LR",),
        matches_image_list=lambda record: record.get("sensor") == "S2" and is_product_tile(record),
        folders=("Images_LR",),
        ambiguous_prefixes=("all",),
        image_folders={"LR": ("Images_LR", "data")},
        bucketed=frozenset({"count", "area"}),
    )
)
