"""Registry of question types, by name."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any, ParamSpec, TypeVar, cast

from .. import known_datasets
from .area import Area
from .comparison import Comparison
from .count import Count
from .land_cover import LandCover
from .presence import Presence
from .question_type import QuestionType
from .rural_urban import RuralUrban

P = ParamSpec("P")
R = TypeVar("R")

OTHER = "other"
"""Type of questions whose wording matches no template."""

#: Question types of RSVQA, in the order of the published tables.
OFFICIAL: tuple[QuestionType, ...] = (
    Presence(),
    Count(),
    Comparison(),
    RuralUrban(),
    Area(),
    LandCover(),
)
_known: dict[str, QuestionType] = {one.name: one for one in OFFICIAL}
_caches: list[Any] = []


def cached_by_types(function: Callable[P, R]) -> Callable[P, R]:
    """Cache the results of a function until the registered types change."""
    cached = lru_cache(maxsize=1 << 16)(function)
    _caches.append(cached)
    return cast("Callable[P, R]", cached)


@contextlib.contextmanager
def temporary_type(one: QuestionType) -> Iterator[None]:
    """Register a type within a ``with`` block; its templates are tried before all others."""
    before = _types()
    try:
        _know({**{n: type for n, type in before.items() if n != one.name}, one.name: one})
        yield
    finally:
        _know(before)


def register_types(*types: QuestionType) -> None:
    """Register the question types of a data set, after the existing ones."""
    _know({**_known, **{one.name: one for one in types}})


def _types() -> dict[str, QuestionType]:
    """Return all types, including those that data sets register."""
    known_datasets.all_datasets()
    return _known


def _know(types: dict[str, QuestionType]) -> None:
    global _known
    _known = types
    for cached in _caches:
        cached.cache_clear()


def all_types() -> tuple[str, ...]:
    """Return the names of all types: RSVQA's in the order of the published tables, then others."""
    return tuple(_types())


@cached_by_types
def type_named(name: str) -> QuestionType:
    """Return the type with an official name; a plain `QuestionType` for any other name."""
    types = _types()
    if name not in types and (whole := types.get(name.partition("/")[0])) and whole.has_subtypes:
        return replace(whole, name=name)
    return types.get(name) or QuestionType(name)


def rules_of(types: Iterable[str]) -> list[str]:
    """Return the scoring rules of some types that are printed beside accuracies."""
    return sorted({type_named(name).rule for name in types} - {""})


def by_wording() -> Iterator[QuestionType]:
    """Yield the types in the order in which their templates are tried: the newest first.

    Presence comes last, because its first template also matches comparisons.
    """
    yield from (one for name, one in reversed(_types().items()) if name != "presence")
    yield _known["presence"]


def _letters(name: str) -> str:
    return re.sub("[^a-z]", "", name.lower())


@cached_by_types
def official_type(stored: str) -> str:
    """Return the official name of a stored type.

    ``Presence`` → ``presence``, ``Rural/Urban`` → ``rural_urban``; other names are unchanged.
    """
    letters = _letters(stored)
    for one in _types().values():
        if letters and letters in map(_letters, (one.name, *one.other_names)):
            return one.name
    return stored
