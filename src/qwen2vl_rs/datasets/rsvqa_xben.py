"""RSVQAxBEN: BigEarthNet's Sentinel-2 patches (Lobry et al. 2021)."""

from ..known_datasets import KnownDataset, register
from .rsvqa_lr import is_cut

RSVQA_XBEN = register(
    KnownDataset(
        name="xBEN",
        title="RSVQAxBEN",
        licence="CC BY 4.0",
        splits=("train", "val", "test"),
        types=("presence", "LC"),
        prefixes=("RSVQAxBEN", "LRBEN"),
        lists=lambda record: record.get("sensor") == "S2" and not is_cut(record),
        image_folders={"RSVQAxBEN": ("Images",), "LRBEN": ("Images",)},
        bucketed=frozenset({"area"}),
        own_type="LC",
    )
)
