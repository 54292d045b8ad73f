"""Question grammar of RSVQA: find the type, template and objects of a question from its wording.

Templates follow Lobry et al., "RSVQA: Visual Question Answering for Remote Sensing Data" (TGRS
2020), and "RSVQA Meets BigEarthNet" (IGARSS 2021); each question type defines its own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping

from ..types import Columnar, Prediction, Sample
from .registry import OTHER, by_wording, cached_by_types, official_type
from .wording import ARTICLES, ATTRIBUTES, RELATIONS, canonical, noun, plain


def _match(question: str) -> tuple[str, re.Match[str] | None]:
    wording = plain(question)
    for one in by_wording():
        for pattern in one.templates:
            found = pattern.fullmatch(wording)
            # the plain wording lacks the lines that tell options from prose
            if found and (not one.has_options or one.of_question(question).choices):
                return one.name, found
    return OTHER, None


@cached_by_types
def question_type(question: str) -> str:
    """Return the type of a question from its wording; ignores case, spacing and ``?``.

    Returns:
        ``presence``, ``count``, ``comp``, ``rural_urban``, ``area`` (LR, HR), ``LC`` (xBEN), …, or
        ``other`` for any wording outside the grammar.
    """
    return _match(question)[0]


def type_of(record: Prediction | Sample) -> str:
    """Return the stored type of a record; without one, the type from its wording."""
    return official_type(record.type) if record.type else question_type(record.question)


KIND = "kind"
"""Name of a virtual column: the result of `type_of`."""


def count_by(records: Iterable[Prediction | Sample], *names: str) -> Mapping[tuple[str, ...], int]:
    """Count each combination of some attributes, in order of first occurrence.

    Args:
        records: records, or a table, which is counted by columns.
        names: names of attributes, or `KIND`.
    """
    if isinstance(records, Columnar):
        return records.counts(*names)
    return Counter(
        tuple(type_of(one) if name == KIND else getattr(one, name) for name in names)
        for one in records
    )


@cached_by_types
def template(question: str) -> str:
    """Return the template of a question.

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


@cached_by_types
def backoff_keys(question: str, type: str) -> tuple[Hashable, ...]:
    """Return look-up keys of a question, from the most to the least specific.

    The keys are: the wording; the wording without suffix, spacing and articles; the objects,
    independent of the template; their bare nouns; the comparator; the type alone.
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
