"""RSVQAxBEN: BigEarthNet's Sentinel-2 patches (Lobry et al. 2021)."""

from ..known_datasets import KnownDataset, register

RSVQA_XBEN = register(
    KnownDataset(
        name="xBEN",
        title="RSVQAxBEN",
        licence="CC BY 4.0",
        splits=("train", "val", "test"),
        types=("presence", "LC"),
        prefixes=("RSVQAxBEN", "LRBEN"),
        image_folders={"RSVQAxBEN": ("Images",), "LRBEN": ("Images",)},
        bucketed=frozenset({"area"}),
        own_type="LC",
    )
)
