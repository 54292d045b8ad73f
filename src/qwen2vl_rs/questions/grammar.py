"""The question grammar of RSVQA: the type of a question, and what it asks about.

Templates after Lobry et al., "RSVQA: Visual Question Answering for Remote Sensing Data" (TGRS
2020), and "RSVQA Meets BigEarthNet" (IGARSS 2021); each stands with its type.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping

from ..types import Columnar, Prediction, Sample
from .registry import OTHER, by_wording, official_type, remembered
from .wording import ARTICLES, ATTRIBUTES, RELATIONS, canonical, noun, plain


def _match(question: str) -> tuple[str, re.Match[str] | None]:
    wording = plain(question)
    for one in by_wording():
        for pattern in one.templates:
            if found := pattern.fullmatch(wording):
                return one.name, found
    return OTHER, None


@remembered
def question_type(question: str) -> str:
    """The RSVQA type of a question, by its wording; case, spacing and ``?`` do not matter.

    Returns:
        ``presence``, ``count``, ``comp``, ``rural_urban``, ``area`` (LR, HR), ``LC`` (xBEN), or
        ``other`` for any wording outside the grammar.
    """
    return _match(question)[0]


def type_of(record: Prediction | Sample) -> str:
    """The stored type of a record, or where none is stored the one its question says."""
    return official_type(record.type) if record.type else question_type(record.question)


KIND = "kind"
"""The name of what `type_of` says, among the columns that are counted."""


def counted(records: Iterable[Prediction | Sample], *names: str) -> Mapping[tuple[str, ...], int]:
    """How often each combination of some attributes occurs, in the order of the first of each.

    Args:
        records: a table is counted by its columns.
        names: of attributes, and `KIND`.
    """
    if isinstance(records, Columnar):
        return records.counts(*names)
    return Counter(
        tuple(type_of(one) if name == KIND else getattr(one, name) for name in names)
        for one in records
    )


@remembered
def template(question: str) -> str:
    """The template a question was made from, as a pattern of words.

    ``Are there more small roads than parks next to a  lake in the image?`` → ``are there more
    [attribute] [object] than [object] [relation] [object]?``. A question outside the grammar is
    its own template.
    """
    wording = plain(question)
    found = _match(question)[1]
    if found is None:
        return wording
    names = {group: name for name, group in found.re.groupindex.items()}
    pattern, end = "", 0
    for group in range(1, found.re.groups + 1):
        if found[group] and group not in names:
            pattern += wording[end : found.start(group)] + _shape(found[group].rstrip())
            end = found.start(group) + len(found[group].rstrip())
    return f"{pattern}{wording[end:]}?"


def _shape(element: str) -> str:
    for relation in RELATIONS:
        head, there, rest = element.partition(f" {relation} ")
        if there:
            return f"{_shape(head)} [relation] {_shape(rest)}"
    first, _, rest = ARTICLES.sub("", element).partition(" ")
    return "[attribute] [object]" if first in ATTRIBUTES and rest else "[object]"


@remembered
def back_off(question: str, type: str) -> tuple[Hashable, ...]:
    """Keys under which a question is looked up, from the most to the least specific.

    The wording itself; without suffix, spacing and articles; the objects it names, whatever the
    template; their bare nouns; the comparator alone; the type.
    """
    keys: list[Hashable] = [("wording", question), ("canonical", canonical(question))]
    found = _match(question)[1]
    if found:
        comparator = found.groupdict().get("comparator") or ""
        objects = [ARTICLES.sub("", e) for e in found.groups("") if e != comparator]
        keys.append(("objects", comparator, *objects))
        keys.append(("nouns", comparator, *map(noun, objects)))
        keys.append(("comparator", comparator))
    keys.append("all")
    return tuple((type, key) for key in keys)
