"""OpenStreetMap life-cycle tags: features that do not exist yet, or no longer.

There are three notations (OpenStreetMap wiki, "Lifecycle prefix", "Key:construction"): a value
(``building=construction``), an additional key (``demolished=yes``), and a prefix
(``razed:building=house``), which replaces the tag of the feature. The criterion is visibility from
above: planned, unfinished and demolished features are invisible; features that are abandoned or
disused in addition to their own tag still exist, as do ruins; with a prefix they have become
something else.
"""

from __future__ import annotations

from collections.abc import Mapping

_PLANNED = ("proposed", "planned", "construction")
_GONE = ("demolished", "destroyed", "razed", "removed", "dismantled", "gone", "collapsed")
_ENDED = ("abandoned", "disused", "was", "historic", "former")

#: Keys in addition to the tag of the feature.
STATES = ("proposed", "planned", "construction", *_GONE)
_PREFIXES = (*_PLANNED, *_GONE, *_ENDED, "ruins", "old", "closed")
_VALUES = frozenset((*_PLANNED, *_GONE))
_THINGS = ("building", "highway")  # keys whose value may be a state
_NO = frozenset(("", "no", "none", "false", "f", "n", "0"))


def is_prefixed(key: str, keys: tuple[str, ...]) -> bool:
    """Whether a key is one of some keys with a life-cycle prefix: ``razed:building``."""
    prefix, _, rest = key.partition(":")
    return prefix in _PREFIXES and rest in keys


def is_absent(tags: Mapping[str, str]) -> bool:
    """Whether a feature with its own tag does not exist yet, or no longer.

    Args:
        tags: OpenStreetMap keys and values.
    """
    if any(tags.get(thing, "").strip().lower() in _VALUES for thing in _THINGS):
        return True
    if any(tags.get(key, "").strip().lower() not in _NO for key in ("proposed", "planned", *_GONE)):
        return True
    # construction=minor is work on a feature in use; other values name the future feature
    return tags.get("construction", "").strip().lower() in ("yes", "true", "1")


def is_former(tags: Mapping[str, str], keys: tuple[str, ...]) -> bool:
    """Whether a feature unknown to RSVQA would be known in another life-cycle state.

    Args:
        tags: OpenStreetMap keys and values.
        keys: keys that identify a feature.
    """
    ended = tags.get("highway", "").strip().lower() in _ENDED  # such buildings still exist
    return ended or is_absent(tags) or any(is_prefixed(key, keys) for key in tags)
