"""The types of questions that are known, by name."""

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
"""The type of questions whose wording is none of those known."""

#: RSVQA's, in the order of the published tables.
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


def remembered(function: Callable[P, R]) -> Callable[P, R]:
    """A function that remembers its results as long as the types that are known stay the same."""
    cached = lru_cache(maxsize=1 << 16)(function)
    _caches.append(cached)
    return cast("Callable[P, R]", cached)


@contextlib.contextmanager
def registered(one: QuestionType) -> Iterator[None]:
    """Make a type known for a while; its wording is recognised before that of the others.

    The types that this package knows stand in `OFFICIAL`.
    """
    before = _types()
    try:
        _know({**{n: type for n, type in before.items() if n != one.name}, one.name: one})
        yield
    finally:
        _know(before)


def add(*types: QuestionType) -> None:
    """Make types known for good, behind those before: of a data set, by its file."""
    _know({**_known, **{one.name: one for one in types}})


def _types() -> dict[str, QuestionType]:
    """All types; the files of data sets add theirs."""
    known_datasets.all_datasets()
    return _known


def _know(types: dict[str, QuestionType]) -> None:
    global _known
    _known = types
    for cached in _caches:
        cached.cache_clear()


def all_types() -> tuple[str, ...]:
    """The names of all types, in the order of the published tables, others behind."""
    return tuple(_types())


@remembered
def type_named(name: str) -> QuestionType:
    """A type by its official name; of any other name one without anything of its own."""
    types = _types()
    if name not in types and (whole := types.get(name.partition("/")[0])) and whole.in_parts:
        return replace(whole, name=name)
    return types.get(name) or QuestionType(name)


def rules_of(types: Iterable[str]) -> list[str]:
    """The rules by which questions of some types are judged, where these are told."""
    return sorted({type_named(name).rule for name in types} - {""})


def by_wording() -> Iterator[QuestionType]:
    """The types in the order in which their templates are tried: the newest first.

    Comparisons come before presence, whose first template would match them too.
    """
    yield from (one for name, one in reversed(_types().items()) if name != "presence")
    yield _known["presence"]


def _letters(name: str) -> str:
    return re.sub("[^a-z]", "", name.lower())


@remembered
def official_type(stored: str) -> str:
    """A type as it is stored in some file, by its official name where it has one.

    ``Presence`` → ``presence``, ``Rural/Urban`` → ``rural_urban``; other names stay as they are.
    """
    letters = _letters(stored)
    for one in _types().values():
        if letters and letters in map(_letters, (one.name, *one.other_names)):
            return one.name
    return stored
