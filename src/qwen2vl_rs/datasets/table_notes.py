"""What is known of a table beyond its columns: where it comes from, in a note beside it.

The columns of the CSV are fixed. ``rsvqa-dataset.csv`` has its note in ``rsvqa-dataset.csv.json``,
with the digest of the table: of a table that was changed or replaced it says nothing.
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
"""Beside the lists that `generate` writes: how they were made."""


@dataclass(frozen=True, slots=True)
class Note:
    """Where questions come from; what is not known is empty.

    Attributes:
        dataset, manner: see `types.Sample`.
        split: ``train``, ``val``, ``test``, … of an official file.
    """

    dataset: str = ""
    manner: str = ""
    split: str = ""


def official_note(questions: Path, images: Path | None) -> Note:
    """What an official questions file says by its name, its image list and its folders.

    Args:
        questions: the file.
        images: the image folder, where it is known.
    """
    match = SPLIT_NAME.fullmatch(questions.name) or WHOLE_NAME.fullmatch(questions.name)
    parts = match.groupdict() if match else {}
    prefix, split = str(parts.get("prefix", "")).rstrip("_"), str(parts.get("split", ""))
    plan = (_object(questions.with_name(PLAN_FILE))).get("plan")
    if isinstance(plan, dict) and isinstance(plan.get("manner"), str):
        return Note(dataset_name(plan.get("like")), canonical_manner(plan["manner"]), split)
    return Note(_named_by(questions, prefix, images), split=split)


def named_note(note: Note, path: Path, dataset: str | None) -> Note:
    """The note of a file of which a person says whose it is.

    Raises:
        DataError: it says another data set itself.
    """
    if dataset and note.dataset not in ("", dataset):
        raise DataError(
            f"{path} holds questions of {note.dataset}, not of {dataset}",
            hint="leave --dataset out: the file tells it",
        )
    return replace(note, dataset=dataset) if dataset else note


def published_note(questions: Path, datasets: Sequence[str]) -> Note:
    """What is known of the file of another data set: its split by its name, as published.

    Args:
        questions: the file.
        datasets: that its questions name.
    """
    name = datasets[0] if len(datasets) == 1 else ""
    splits = all_datasets()[name].splits if name in all_datasets() else ()
    words = re.findall("[a-z]+", questions.stem.lower())
    found = [s for s in splits if any(word.startswith(s) for word in words)]
    return Note(name, split=next(iter(found or splits[:1] * (len(splits) == 1)), ""))


def _named_by(questions: Path, prefix: str, images: Path | None) -> str:
    """The data set that a file's name, its image list or its folder tells, the surest first."""

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
    """Whether a split is one that nobody trains on."""
    return split not in ("", WHOLE, "train")


def _first_image(questions: Path) -> dict[str, Any]:
    """The first record with a sensor of the image list beside the questions; empty if none is."""
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
    """Write the note of a table that was just written, or renew the one that is there.

    Raises:
        RunError: it cannot be written.
    """
    path = _place(table)
    if note != Note() or path.is_file():
        write_json(path, {"sha256": sha256(table), **asdict(note)})


def read_note(table: Path) -> Note:
    """The note of a table; an empty one where there is none, or the table is another by now."""
    found = read_json(_place(table), damaged=None) if table.is_file() else None
    if not isinstance(found, dict):
        return Note()
    known = {key: found.get(key) for key in Note.__slots__}
    if "sha256" not in found or not all(isinstance(v, str) for v in known.values()):
        return Note()
    if found["sha256"] != sha256(table):
        say(f"{_place(table)} is about another content of {table}, and not used")
        return Note()
    texts = {key: str(value) for key, value in known.items()}
    texts["manner"] = canonical_manner(texts["manner"])
    return Note(**texts | {"dataset": dataset_name(known["dataset"])})


def _place(table: Path) -> Path:
    return table.with_name(f"{table.name}.json")
