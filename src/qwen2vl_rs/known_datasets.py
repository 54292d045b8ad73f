"""Registry of known data sets: name, licence, splits, question types and how to recognise each.

A file in ``datasets/`` creates a `KnownDataset` and registers it. Everything that depends on the
name of a data set, from settings to official classes, looks it up here. The files are imported on
the first look-up, by their names in `_BUILT_IN`: the only import that points up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any

# modules in ``datasets``, in display order
_BUILT_IN = (
    "rsvqa_lr",
    "rsvqa_hr",
    "rsvqa_xben",
    "floodnet",
    "vrsbench",
    "earthvqa",
    "multiple_choice",
)
_known: dict[str, KnownDataset] = {}


@dataclass(frozen=True, slots=True)
class KnownDataset:
    """Description of a data set.

    Attributes:
        name: the name stored with questions, in settings and in results.
        title: the full name, for people.
        licence: licence of the questions and images.
        splits: the published splits.
        types: the question types.
        zenodo: number of the Zenodo record with its files, in RSVQA's layout; empty for none.
        prefixes: prefixes of its file names.
        matches_image_list: whether a record of an image list (a JSON object) belongs to it.
        folders: names of image folders that identify it.
        ambiguous_prefixes: file name prefixes that identify it only if nothing else does.
        image_folders: by file name prefix, folders beside the files that may hold its images.
        bucketed: question types whose numbers are compared in the official buckets.
        answers: by question type, the candidate answers without any training questions.
        unique_type: a question type that no other data set has; identifies old runs.
    """

    name: str
    title: str
    licence: str
    splits: tuple[str, ...]
    types: tuple[str, ...]
    zenodo: str = ""
    prefixes: tuple[str, ...] = ()
    matches_image_list: Callable[[Mapping[str, Any]], bool] = lambda record: False
    folders: tuple[str, ...] = ()
    ambiguous_prefixes: tuple[str, ...] = ()
    image_folders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    bucketed: frozenset[str] = frozenset()
    answers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unique_type: str = ""


def register(dataset: KnownDataset) -> KnownDataset:
    """Register a data set."""
    _known[dataset.name] = dataset
    return dataset


def all_datasets() -> dict[str, KnownDataset]:
    """Return all data sets by name."""
    _built_in()
    return _known


@cache
def _built_in() -> None:
    given = dict(_known)
    _known.clear()
    for name in _BUILT_IN:
        import_module(f"{__package__}.datasets.{name}")
    _known.update(given)


def bucketed(name: str) -> frozenset[str]:
    """Return the question types that are compared in buckets; none for an unknown data set."""
    found = all_datasets().get(name)
    return found.bucketed if found else frozenset()


def dataset_name(value: object) -> str:
    """Return the registered name of a data set (``RSVQA-LR``, ``hr``); empty if unknown."""
    if not isinstance(value, str):
        return ""
    return value if value in all_datasets() else _by_spelling(value)


def known_name(value: str) -> str:
    """Return the registered name of a data set, in any spelling.

    Raises:
        ValueError: the name is unknown.
    """
    if name := dataset_name(value):
        return name
    raise ValueError(f"{value!r} is not one of {', '.join(all_datasets())}")


def _by_spelling(text: str) -> str:
    plain = _letters(text)
    return {_letters(name): name for name in all_datasets()}.get(plain, "")


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower()).removeprefix("rsvqa").removesuffix("vqa")
