"""RSVQA-HR: aerial images of cities in the north-east of the USA (Lobry et al. 2020)."""

from ..known_datasets import KnownDataset, register

RSVQA_HR = register(
    KnownDataset(
        name="HR",
        title="RSVQA-HR",
        licence="CC BY 4.0",
        zenodo="6344367",
        splits=("train", "val", "test", "test_phili"),
        types=("presence", "count", "comp", "area"),
        prefixes=("USGS",),
        matches_image_list=lambda record: record.get("sensor") == "ULTRACAM_EAGLE_FALCON",
        folders=("dataUSGS",),
        image_folders={"USGS": ("Data", "dataUSGS")},
        bucketed=frozenset({"area"}),
        answers={"count": tuple(map(str, range(90)))},
        unique_type="area",
    )
)
