"""VRSBench-VQA: open questions about aerial images (Li et al., NeurIPS 2024, Datasets track).

The question file is one JSON list, ``[{"question_id": 0, "image_id": "P0003_0002.png", "type":
"object quantity", "question": …, "ground_truth": "2"}, …]``; the images are beside it or in a
folder beside it. The training split is published as conversations.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..known_datasets import KnownDataset, register
from ..questions import registry
from ..questions.open_answer import OpenAnswer
from .base import Row
from .file_forms import FileForm, register_form
from .file_opening import FileStart
from .json_records import answer_of, records
from .keyed_rows import Keys
from .left_out import LeftOut

_ASPECTS = ("category", "existence", "quantity", "color", "shape", "size", "position", "direction")
TYPES = (*(f"object {name}" for name in _ASPECTS), "scene type", "reasoning")
VRSBENCH = register(
    KnownDataset(
        name="VRSBench",
        title="VRSBench-VQA",
        licence="CC BY 4.0 (annotations)",
        splits=("train", "eval"),
        types=TYPES,
    )
)
registry.register_types(
    *(OpenAnswer(name) for name in TYPES[:-2]),
    OpenAnswer("scene type", other_names=("image",)),
    OpenAnswer("reasoning"),
)
_KEYS = Keys(
    VRSBENCH.name,
    "image_id",
    "question",
    "ground_truth",
    "type",
    ("Images_val", "Images_train", "Images", "images"),
)


def _recognises(start: FileStart) -> bool:
    return start.kind == "list" and start.has("image_id", "question", "ground_truth")


def _rows(path: Path, with_images: bool, counts: LeftOut) -> Iterator[Row]:
    named = (
        (answer_of(path, n, record, "question_id"), record)
        for n, record in enumerate(records(path, None), 1)
    )
    return _KEYS.rows(path, named, with_images, counts)


register_form(FileForm(_recognises, _rows, (VRSBENCH.name,)))
