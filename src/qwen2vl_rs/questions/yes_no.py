"""Parse yes/no answers, alone or in a sentence.

The question is not considered: ``There is a road.`` is ``yes`` to any presence question.
"""

from __future__ import annotations

import re

from .clean import is_hedged, is_negated, words_of
from .numbers import scan
from .wording import ATTRIBUTES, NOUN_WORDS, word_set

_HEAD = re.compile(r"(yes|no)(?!['/-]?\w)(?P<stop> ?[,.;:!–—-]*) *(?P<rest>.*)")
# Words that may follow a bare "no"; any other word makes it "no roads", "no idea".
_CONTINUES = re.compile(
    r"(?:no|there|it|they|the|this|that|these|those|i|we|you|because|since|as|is|are)(?:'|n't)?\b"
    r"|[^\w]|[0-9.]+ ?%"
)
_THERE = re.compile(
    r"there (?:is|are)(?P<not>n't| not)? "
    r"(?:(?P<no>no|any|an?|the|some|several|many|only|#) )?(?P<what>.+)"
)
_SHOWN = re.compile(
    r"(?:(?P<no>no|an?|the|some|several|many|#) )?(?P<what>.+) "
    r"(?:is|are|can)(?P<not>n't| ?not|'t)? (?:be )?(?:present|visible|seen|found|shown)"
    r"(?: in the (?:image|scene|picture))?"
)
_BARE_NO = re.compile(r"(?P<no>no) (?P<not>)(?P<what>.+)")
_SCENE_WORDS = (
    NOUN_WORDS
    | frozenset(ATTRIBUTES)
    | word_set(
        """a an the of at on in to next top bottom left right image scene picture this present
        visible here"""
    )
)


def yes_no(answer: str, presence: bool) -> str | None:
    """Return ``yes`` or ``no``; None if the answer is neither, or both.

    Args:
        answer: the cleaned answer.
        presence: whether it answers a presence question, so that ``There is a road`` is a yes.
    """
    head = _HEAD.fullmatch(answer)
    if head is None:
        return existence(answer) if presence else None
    word, stop, rest = head[1], head["stop"].strip(), head["rest"]
    if word == "no" and rest and not stop and not _CONTINUES.match(rest):
        # "No roads": "no" belongs to the noun
        return existence(answer) if presence else None
    if word == "no" and stop in ("", ".") and rest.isdecimal():
        return None  # "No. 12" means "number 12"
    if presence and (clause := existence(rest)):
        return word if clause == word else None
    words = words_of(rest)
    if is_hedged(rest, words):
        return None
    return None if (is_negated(words) if word == "yes" else "yes" in words) else word


def existence(sentence: str) -> str | None:
    """Return ``yes`` or ``no`` for ``There is a road``, ``No road is visible``, ``No roads``."""
    found = scan(sentence)
    if found is None or len(found.values) > 1:
        return None
    for pattern in (_THERE, _SHOWN, _BARE_NO):
        match = pattern.fullmatch(found.template)
        if match and _is_scene(match["what"]):
            negations = (match["no"] == "no") + bool(match["not"]) + (found.values == (0,))
            return None if negations > 1 else "no" if negations else "yes"
    return None


def _is_scene(phrase: str) -> bool:
    """Whether a phrase contains only RSVQA's vocabulary: ``no idea`` is not an absence."""
    words = [_singulars(word) for word in phrase.split()]
    return all(forms & _SCENE_WORDS for forms in words) and any(
        forms & NOUN_WORDS for forms in words
    )


def _singulars(word: str) -> set[str]:
    forms = {word, word.removesuffix("s"), word.removesuffix("es")}
    return forms | {word[:-3] + "y"} if word.endswith("ies") else forms
