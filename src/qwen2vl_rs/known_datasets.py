"""The data sets whose classes are known; each says in a file of its own what is true of it.

A file in ``datasets/`` makes a `KnownDataset` and registers it. Everything that depends on a data
set's name, from settings to classes, asks here. These files are imported when the first asks,
by their names in `_BUILT_IN`: the one arrow that points up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any

# files of ``datasets``, in order of display
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
    """What is true of a data set.

    Attributes:
        name: as it stands with questions, in settings and in results.
        title: as people call it.
        licence: of its questions and images.
        splits: as they are published.
        types: of its questions.
        prefixes: with which the names of its files begin.
        lists: whether a record of an image list (a JSON object) is one of its own.
        folders: of its images, by whose name it is recognised.
        shared_prefixes: likewise of files, where nothing else says whose they are.
        image_folders: where its images may lie, beside its files.
        bucketed: types whose numbers are compared in the official buckets.
        answers: by type, what can be said where no training question is known.
        own_type: a type that no other has, by which old runs are recognised.
    """

    name: str
    title: str
    licence: str
    splits: tuple[str, ...]
    types: tuple[str, ...]
    prefixes: tuple[str, ...] = ()
    lists: Callable[[Mapping[str, Any]], bool] = lambda record: False
    folders: tuple[str, ...] = ()
    shared_prefixes: tuple[str, ...] = ()
    image_folders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    bucketed: frozenset[str] = frozenset()
    answers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    own_type: str = ""


def register(dataset: KnownDataset) -> KnownDataset:
    """Make a data set known."""
    _known[dataset.name] = dataset
    return dataset


def all_datasets() -> dict[str, KnownDataset]:
    """All data sets by name."""
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
    """The types of a data set whose numbers are compared in buckets; none of an unknown one."""
    found = all_datasets().get(name)
    return found.bucketed if found else frozenset()


def dataset_name(value: object) -> str:
    """The name of a data set however it is spelt (``RSVQA-LR``, ``hr``); empty for others."""
    if not isinstance(value, str):
        return ""
    return value if value in all_datasets() else _by_spelling(value)


def known_name(value: str) -> str:
    """The name of a data set however it is spelt.

    Raises:
        ValueError: none is called so.
    """
    if name := dataset_name(value):
        return name
    raise ValueError(f"{value!r} is none of {', '.join(all_datasets())}")


def _by_spelling(text: str) -> str:
    plain = _letters(text)
    return {_letters(name): name for name in all_datasets()}.get(plain, "")


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower()).removeprefix("rsvqa")
