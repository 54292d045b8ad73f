"""Sidecar metadata of a CSV table: data set, split and manner, in a JSON file beside it.

The columns of the CSV are fixed. The note of ``rsvqa-dataset.csv`` is ``rsvqa-dataset.csv.json``;
it contains the SHA-256 of the table, and is ignored if the table was changed or replaced.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..known_datasets import KnownDataset, all_datasets, dataset_name
from ..system.console import say
from ..system.files import read_json, sha256, write_json
from ..types import canonical_manner
from . import json_records as jsonstream
from .rsvqa import SPLIT_NAME, WHOLE, WHOLE_NAME

PLAN_FILE = "generate.json"
"""File beside the lists written by `generate`: the plan that created them."""


@dataclass(frozen=True, slots=True)
class Note:
    """Origin of questions; unknown fields are empty.

    Attributes:
        dataset, manner: see `types.Sample`.
        split: split of an official file: ``train``, ``val``, ``test``, …
    """

    dataset: str = ""
    manner: str = ""
    split: str = ""


def official_note(questions: Path, images: Path | None) -> Note:
    """Determine the origin of an official question file from its name, image list and folders.

    Args:
        questions: the file.
        images: the image folder, if known.
    """
    match = SPLIT_NAME.fullmatch(questions.name) or WHOLE_NAME.fullmatch(questions.name)
    parts = match.groupdict() if match else {}
    prefix, split = str(parts.get("prefix", "")).rstrip("_"), str(parts.get("split", ""))
    plan = (_object(questions.with_name(PLAN_FILE))).get("plan")
    if isinstance(plan, dict) and isinstance(plan.get("manner"), str):
        return Note(dataset_name(plan.get("like")), canonical_manner(plan["manner"]), split)
    return Note(_named_by(questions, prefix, images), split=split)


def note_with_dataset(note: Note, path: Path, dataset: str | None) -> Note:
    """Set the data set given by the user in a note.

    Raises:
        DataError: the file names another data set.
    """
    if dataset and note.dataset not in ("", dataset):
        raise DataError(
            f"{path} contains questions of {note.dataset}, not of {dataset}",
            hint="omit --dataset: the file identifies it",
        )
    return replace(note, dataset=dataset) if dataset else note


def published_note(questions: Path, datasets: Sequence[str]) -> Note:
    """Determine the split of a published file of another data set from its name.

    Args:
        questions: the file.
        datasets: data sets named by its questions.
    """
    name = datasets[0] if len(datasets) == 1 else ""
    splits = all_datasets()[name].splits if name in all_datasets() else ()
    words = re.findall("[a-z]+", questions.stem.lower())
    found = [s for s in splits if any(word.startswith(s) for word in words)]
    return Note(name, split=next(iter(found or splits[:1] * (len(splits) == 1)), ""))


def _named_by(questions: Path, prefix: str, images: Path | None) -> str:
    """Identify the data set from file name, image list or folder, the most reliable first."""

    def found(says: Callable[[KnownDataset], bool]) -> str:
        return next((one.name for one in all_datasets().values() if says(one)), "")

    if by_prefix := found(lambda one: prefix in one.prefixes):
        return by_prefix
    first = _first_image(questions)
    return (
        found(lambda one: one.matches_image_list(first))
        or found(lambda one: images is not None and images.name in one.folders)
        or found(lambda one: prefix in one.ambiguous_prefixes)
    )


def is_held_out(split: str) -> bool:
    """Whether a split is not for training."""
    return split not in ("", WHOLE, "train")


def _first_image(questions: Path) -> dict[str, Any]:
    """Return the first record with a sensor in the image list beside the questions; else empty."""
    listed = questions.with_name(questions.name.removesuffix("questions.json") + "images.json")
    with contextlib.suppress(DataError):
        for record in jsonstream.records(listed, "images"):
            if record.get("active", True) and "sensor" in record:
                return record
    return {}


def _object(path: Path) -> dict[str, Any]:
    found = read_json(path, damaged=None)
    return found if isinstance(found, dict) else {}


def write_note(table: Path, note: Note) -> None:
    """Write the note of a table that was just written, or replace the existing one.

    Raises:
        RunError: the note cannot be written.
    """
    path = _place(table)
    if note != Note() or path.is_file():
        write_json(path, {"sha256": sha256(table), **asdict(note)})


def read_note(table: Path) -> Note:
    """Read the note of a table; empty if there is none, or if the table has changed."""
    found = read_json(_place(table), damaged=None) if table.is_file() else None
    if not isinstance(found, dict):
        return Note()
    known = {key: found.get(key) for key in Note.__slots__}
    if "sha256" not in found or not all(isinstance(v, str) for v in known.values()):
        return Note()
    if found["sha256"] != sha256(table):
        say(f"{_place(table)} is ignored: {table} has changed since")
        return Note()
    texts = {key: str(value) for key, value in known.items()}
    texts["manner"] = canonical_manner(texts["manner"])
    return Note(**texts | {"dataset": dataset_name(known["dataset"])})


def _place(table: Path) -> Path:
    return table.with_name(f"{table.name}.json")
