"""Vocabulary of RSVQA's questions (attributes, relations, nouns), and canonical wordings.

Attributes and relations follow Lobry et al., "RSVQA: Visual Question Answering for Remote Sensing
Data" (TGRS 2020).
"""

from __future__ import annotations

import re

ATTRIBUTES = ("small", "medium", "large", "circular", "rectangular", "square")
RELATIONS = ("at the top of", "on the right of", "at the bottom of", "on the left of", "next to")


def word_set(words: str) -> frozenset[str]:
    """Return the words of a text, as a set."""
    return frozenset(words.split())


# Singular nouns of RSVQA-LR and -HR: buildings, roads, water, and OpenStreetMap land uses.
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
ARTICLES = re.compile(r"\b(?:an?|the) ")


def plain(question: str) -> str:
    """Convert to lower case and single spaces; remove the question mark and ``in the image``."""
    return _SUFFIX.sub("", " ".join(question.lower().split()).rstrip(" ?.!"))


def canonical(question: str) -> str:
    """Remove what has no meaning from a question: case, spacing, suffix and articles."""
    return ARTICLES.sub("", plain(question))


def noun(element: str) -> str:
    """Return the bare object of a phrase, without attribute and relation to another object.

    ``small roads next to a water area`` → ``roads``.
    """
    for relation in RELATIONS:
        element = element.partition(f" {relation} ")[0]
    first, _, rest = element.partition(" ")
    return rest if first in ATTRIBUTES and rest else element
