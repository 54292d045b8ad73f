"""OpenStreetMap's life-cycle tags: what is not there yet, or not any more.

Three ways of saying so, after the OpenStreetMap wiki ("Lifecycle prefix", "Key:construction"): a
value (``building=construction``), a key beside the thing's own (``demolished=yes``), and a prefix
(``razed:building=house``), which leaves the thing no tag of its own. What decides is what can be
seen from above: planned, under construction and demolished things cannot; what is abandoned or
disused beside its own tag still stands, as do ruins; under a prefix it has become something else.
"""

from __future__ import annotations

from collections.abc import Mapping

_PLANNED = ("proposed", "planned", "construction")
_GONE = ("demolished", "destroyed", "razed", "removed", "dismantled", "gone", "collapsed")
_ENDED = ("abandoned", "disused", "was", "historic", "former")

#: Keys beside a thing's own tag.
STATES = ("proposed", "planned", "construction", *_GONE)
_PREFIXES = (*_PLANNED, *_GONE, *_ENDED, "ruins", "old", "closed")
_VALUES = frozenset((*_PLANNED, *_GONE))
_THINGS = ("building", "highway")  # of these, a value may be a state; a site is a use of land
_NO = frozenset(("", "no", "none", "false", "f", "n", "0"))


def is_prefixed(key: str, keys: tuple[str, ...]) -> bool:
    """Whether a key is one of some keys behind a life-cycle prefix: ``razed:building``."""
    prefix, _, rest = key.partition(":")
    return prefix in _PREFIXES and rest in keys


def is_absent(tags: Mapping[str, str]) -> bool:
    """Whether a thing with a tag of its own is not there to be seen: not yet, or not any more.

    Args:
        tags: OpenStreetMap's keys and values.
    """
    if any(tags.get(thing, "").strip().lower() in _VALUES for thing in _THINGS):
        return True
    if any(tags.get(key, "").strip().lower() not in _NO for key in ("proposed", "planned", *_GONE)):
        return True
    # construction=minor is work on a thing in use; other values say what it is to become
    return tags.get("construction", "").strip().lower() in ("yes", "true", "1")


def is_former(tags: Mapping[str, str], keys: tuple[str, ...]) -> bool:
    """Whether a thing that is none of RSVQA's is one in another state only.

    Args:
        tags: OpenStreetMap's keys and values.
        keys: that decide what a thing is.
    """
    ended = tags.get("highway", "").strip().lower() in _ENDED  # no building: that still stands
    return ended or is_absent(tags) or any(is_prefixed(key, keys) for key in tags)
