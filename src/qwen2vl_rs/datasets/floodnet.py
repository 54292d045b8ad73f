"""FloodNet-VQA: drone images after a hurricane (Rahnemoonfar et al., IEEE Access 2021).

The question file is one JSON object, ``{"0": {"Image_ID": "10165.JPG", "Question": …,
"Ground_Truth": "flooded" or 3, "Question_Type": "Condition_Recognition"}, …}``; the images are
beside it or in a folder beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..known_datasets import KnownDataset, register
from ..questions import registry
from ..questions.condition import Condition
from ..questions.question_type import Quantity, YesNo
from .base import Row
from .file_forms import FileForm, register_form
from .file_opening import FileStart
from .json_records import members
from .keyed_rows import Keys
from .left_out import LeftOut

FLOODNET = register(
    KnownDataset(
        name="FloodNet",
        title="FloodNet-VQA",
        licence="CDLA-Permissive-1.0",
        splits=("train", "valid", "test"),
        types=("condition", "Yes_No", "Simple_Counting", "Complex_Counting"),
    )
)
registry.register_types(
    Condition(),
    YesNo("Yes_No"),
    Quantity("Simple_Counting", by_dataset=False, exact_numbers=True),
    Quantity("Complex_Counting", by_dataset=False, exact_numbers=True),
)
_KEYS = Keys(
    FLOODNET.name,
    "Image_ID",
    "Question",
    "Ground_Truth",
    "Question_Type",
    ("Images", "images", "Train_Image", "Valid_Image", "Test_Image"),
)


def _recognises(start: FileStart) -> bool:
    return (
        start.kind == "object" and type(start.first) is dict and start.has("Image_ID", "Question")
    )


def _rows(path: Path, with_images: bool, counts: LeftOut) -> Iterator[Row]:
    return _KEYS.rows(path, members(path), with_images, counts)


register_form(FileForm(_recognises, _rows, (FLOODNET.name,)))
