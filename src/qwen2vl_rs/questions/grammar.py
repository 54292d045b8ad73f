"""The question grammar of RSVQA: the type of a question, and what it asks about.

Templates, attributes and relations after Lobry et al., "RSVQA: Visual Question Answering for
Remote Sensing Data" (TGRS 2020), and "RSVQA Meets BigEarthNet" (IGARSS 2021).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from functools import lru_cache

from ..types import Columnar, Prediction, Sample

OTHER = "other"
TYPES = ("presence", "count", "comp", "rural_urban", "area", "LC")
"""The official types in the order of the published tables."""

ATTRIBUTES = ("small", "medium", "large", "circular", "rectangular", "square")
RELATIONS = ("at the top of", "on the right of", "at the bottom of", "on the left of", "next to")


def word_set(words: str) -> frozenset[str]:
    """The words of a text, as a set."""
    return frozenset(words.split())


# Singular nouns of RSVQA-LR and -HR: buildings, roads, water, and OpenStreetMap's land uses.
NOUN_WORDS = word_set(
    """building residential commercial road water area land class industrial retail railway
    cemetery grass farmyard farm farmland orchard vineyard wood meadow village green recreation
    ground allotment allotments quarry park forest garden playground golf course sports centre
    pitch stadium common nature reserve university school college library fuel parking cinema
    theatre place worship hospital scrub wetland heath zoo island pier military barracks
    pedestrian footway runway taxiway hedge construction religious depot garage greenfield
    landfill port salt pond"""
)

_SUFFIX = re.compile(r" in (?:the|this) (?:image|scene|picture)$")
_ARTICLES = re.compile(r"\b(?:an?|the) ")
_RURAL_URBAN = re.compile(
    r"is (?:it|this)\b.*\b(?:rural or (?:an )?urban|urban or (?:a )?rural)\b.*"
)
_COUNT = (
    re.compile(r"how many (.+?)(?: are there)?"),
    re.compile(r"what is the (?:number|amount) of (.+)"),
)
_AREA = (re.compile(r"what is the area covered by (.+)"),)
_COMP = (
    re.compile(r"(?:are|is) there (?P<comparator>less|fewer|more) (.+) than (.+)"),
    re.compile(r"is the number of (.+) (?P<comparator>equal) to the number of (.+)"),
)
_PRESENCE = (
    re.compile(r"(?:is|are) there (?:some )?(.+)"),
    re.compile(r"is an? (.+) present"),
    re.compile(r"are (?:some )?(.+) present"),
)
_LAND_COVER = (
    re.compile(
        r"(?:besides|in addition to) (.+), (?:what|which) (?:land cover )?classes are(?: there)?"
    ),
    re.compile(
        r"(?:what|which) (?:are all the )?(l[123] )?(?:land cover )?classes(?: are)?(?: there)?"
    ),
)
# Comparisons come before presence, whose first template would match them too.
_TEMPLATES = (
    ("rural_urban", (_RURAL_URBAN,)),
    ("count", _COUNT),
    ("area", _AREA),
    ("comp", _COMP),
    ("presence", _PRESENCE),
    ("LC", _LAND_COVER),
)


def _plain(question: str) -> str:
    """Lower case, single spaces, no question mark, no ``in the image``."""
    return _SUFFIX.sub("", " ".join(question.lower().split()).rstrip(" ?.!"))


def _match(question: str) -> tuple[str, re.Match[str] | None]:
    plain = _plain(question)
    for name, patterns in _TEMPLATES:
        for pattern in patterns:
            if found := pattern.fullmatch(plain):
                return name, found
    return OTHER, None


@lru_cache(maxsize=1 << 16)
def question_type(question: str) -> str:
    """The RSVQA type of a question, by its wording; case, spacing and ``?`` do not matter.

    Returns:
        ``presence``, ``count``, ``comp``, ``rural_urban``, ``area`` (LR, HR), ``LC`` (xBEN), or
        ``other`` for any wording outside the grammar.
    """
    return _match(question)[0]


#: Other names of the official types in files in use, in letters only.
_OTHER_NAMES = {
    "counting": "count", "comparison": "comp", "compare": "comp", "urbanrural": "rural_urban",
    "ruralorurban": "rural_urban", "urbanorrural": "rural_urban", "landcover": "LC",
} | {re.sub("[^a-z]", "", name.lower()): name for name in TYPES}  # fmt: skip


@lru_cache(maxsize=1 << 10)
def official_type(stored: str) -> str:
    """A type as it is stored in some file, by its official name where it has one.

    ``Presence`` → ``presence``, ``Rural/Urban`` → ``rural_urban``; other names stay as they are.
    """
    return _OTHER_NAMES.get(re.sub("[^a-z]", "", stored.lower()), stored)


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


def canonical(question: str) -> str:
    """A question without what carries no meaning: case, spacing, suffix and articles."""
    return _ARTICLES.sub("", _plain(question))


def noun(element: str) -> str:
    """The bare object of an element phrase: no attribute, no relation to another object.

    ``small roads next to a water area`` → ``roads``.
    """
    for relation in RELATIONS:
        element = element.partition(f" {relation} ")[0]
    first, _, rest = element.partition(" ")
    return rest if first in ATTRIBUTES and rest else element


@lru_cache(maxsize=1 << 16)
def template(question: str) -> str:
    """The template a question was made from, as a pattern of words.

    ``Are there more small roads than parks next to a  lake in the image?`` → ``are there more
    [attribute] [object] than [object] [relation] [object]?``. A question outside the grammar is
    its own template.
    """
    plain = _plain(question)
    found = _match(question)[1]
    if found is None:
        return plain
    names = {group: name for name, group in found.re.groupindex.items()}
    pattern, end = "", 0
    for group in range(1, found.re.groups + 1):
        if found[group] and group not in names:
            pattern += plain[end : found.start(group)] + _shape(found[group].rstrip())
            end = found.start(group) + len(found[group].rstrip())
    return f"{pattern}{plain[end:]}?"


def _shape(element: str) -> str:
    for relation in RELATIONS:
        head, there, rest = element.partition(f" {relation} ")
        if there:
            return f"{_shape(head)} [relation] {_shape(rest)}"
    first, _, rest = _ARTICLES.sub("", element).partition(" ")
    return "[attribute] [object]" if first in ATTRIBUTES and rest else "[object]"


@lru_cache(maxsize=1 << 16)
def back_off(question: str, type: str) -> tuple[Hashable, ...]:
    """Keys under which a question is looked up, from the most to the least specific.

    The wording itself; without suffix, spacing and articles; the objects it names, whatever the
    template; their bare nouns; the comparator alone; the type.
    """
    keys: list[Hashable] = [("wording", question), ("canonical", canonical(question))]
    found = _match(question)[1]
    if found:
        comparator = found.groupdict().get("comparator") or ""
        objects = [_ARTICLES.sub("", e) for e in found.groups("") if e != comparator]
        keys.append(("objects", comparator, *objects))
        keys.append(("nouns", comparator, *map(noun, objects)))
        keys.append(("comparator", comparator))
    keys.append("all")
    return tuple((type, key) for key in keys)
