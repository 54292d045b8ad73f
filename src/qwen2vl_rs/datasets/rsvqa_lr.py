"""RSVQA-LR: Sentinel-2 tiles of the Netherlands (Lobry et al. 2020)."""

from ..known_datasets import KnownDataset, register

RSVQA_LR = register(
    KnownDataset(
        name="LR",
        title="RSVQA-LR",
        licence="CC BY 4.0",
        splits=("train", "val", "test"),
        types=("presence", "count", "comp", "rural_urban"),
        prefixes=("LR",),
        folders=("Images_LR",),
        image_folders={"LR": ("Images_LR", "data")},
        bucketed=frozenset({"count", "area"}),
    )
)
