"""EarthVQA: relational questions about LoveDA's aerial images (Wang et al., AAAI 2024).

The question file is one JSON object, ``{"0.png": [{"Type": "Basic Counting", "Question": …,
"Answer": 3 or "10%-20%"}, …], …}``; the images are in ``images_png``, as in LoveDA.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..known_datasets import KnownDataset, register
from ..questions import registry
from ..questions.listed_answer import Judging, ListedAnswer, NumberOrShare
from .base import Row
from .file_forms import FileForm, register_form
from .file_opening import FileStart
from .json_records import member_lists
from .keyed_rows import Keys
from .left_out import LeftOut

EARTHVQA = register(
    KnownDataset(
        name="EarthVQA",
        title="EarthVQA",
        licence="not for commercial use",
        splits=("train", "val", "test"),
        types=(
            "Basic Judging",
            "Reasoning-based Judging",
            "Basic Counting",
            "Reasoning-based Counting",
            "Object Situation Analysis",
            "Comprehensive Analysis",
        ),
    )
)
registry.register_types(
    Judging("Basic Judging"),
    Judging("Reasoning-based Judging"),
    NumberOrShare("Basic Counting"),
    NumberOrShare("Reasoning-based Counting"),
    ListedAnswer("Object Situation Analysis"),
    ListedAnswer("Comprehensive Analysis"),
)
_KEYS = Keys(
    EARTHVQA.name,
    "Image",
    "Question",
    "Answer",
    "Type",
    ("images_png", "Train/images_png", "Val/images_png", "Test/images_png", "images"),
)


def _recognises(start: FileStart) -> bool:
    return start.kind == "object" and type(start.first) is list and start.has("Type", "Question")


def _rows(path: Path, with_images: bool, counts: LeftOut) -> Iterator[Row]:
    named = (
        (f"{image}_{place}", {**record, "Image": image})
        for image, place, record in member_lists(path)
    )
    return _KEYS.rows(path, named, with_images, counts)


register_form(FileForm(_recognises, _rows, (EARTHVQA.name,)))
