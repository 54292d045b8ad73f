"""RSVQAxBEN: BigEarthNet's Sentinel-2 patches (Lobry et al. 2021)."""

from ..known_datasets import KnownDataset, register
from .rsvqa_lr import is_product_tile

RSVQA_XBEN = register(
    KnownDataset(
        name="xBEN",
        title="RSVQAxBEN",
        licence="CC BY 4.0",
        zenodo="5084904",
        splits=("train", "val", "test"),
        types=("presence", "LC"),
        prefixes=("RSVQAxBEN", "LRBEN"),
        matches_image_list=lambda record: (
            record.get("sensor") == "S2" and not is_product_tile(record)
        ),
        image_folders={"RSVQAxBEN": ("Images",), "LRBEN": ("Images",)},
        bucketed=frozenset({"area"}),
        unique_type="LC",
    )
)
