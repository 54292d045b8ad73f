"""Normal forms of answers, strict: what is not one clear answer is no answer, and so wrong.

An answer is judged by the type of its question, so that ``no`` can never stand for ``urban``.
Sentences are read where only one reading is left; the words decide, not the letters. Only the
answer is seen here, not the question: ``There is a road.`` is ``yes`` to any presence question.
"""

from __future__ import annotations

import re
from functools import lru_cache

from .grammar import ATTRIBUTES, NOUN_WORDS, word_set
from .numbers import quantity, scan
from .reply import CUT_OFF, UNCLEAR, spoken

_LONGEST = 1000  # characters; RSVQA's answers have under 30

# Fullwidth forms, as Chinese keyboards give them. No other compatibility forms: 10² is not 102.
_NARROW = {0xFF01 + i: 0x21 + i for i in range(94)}
_NARROW |= {ord("’"): 0x27, ord("‘"): 0x27, ord("。"): 0x2E, ord("、"): 0x2C}
_END = re.compile(r"</s>|<\|[^<>|]*\|>|<end_of_turn>")  # and whatever a model went on to say
_LINES = re.compile(r"(?<=\w)\s*[\r\n]\s*")
_MARKUP = re.compile(r"(?<![0-9])[*_`\"“”#]+|[*_`\"“”#]+(?![0-9])")
_PREFIX = re.compile(r"^(?:- )?(?:(?:the )?(?:final |correct )?answer(?: is\b:?|:) *)?")
_WORD = re.compile(r"[a-z]+(?:['-][a-z]+)*")

_NEGATIONS = word_set(
    "no non not none nothing never without neither nor cannot lack lacks lacking absent"
)
# Words that take back, split or refuse an answer.
_DOUBTS = word_set(
    """or but however although though maybe perhaps unclear unsure uncertain unknown unable
    impossible sorry either if whether unless except enough information determine depends hardly
    barely scarcely idea clue dunno"""
)
_WEAKENED = word_set("far less almost nearly")
# Phrases of who does not know. "Not that I know" and "not one can be seen" are none of them.
_IGNORANCE = re.compile(
    r"""(?:n't|\b(?:not|never|neither|nor|dont))
        (?:[ ](?:[a-z]+ly|quite|so|too|very|that|yet|for|[0-9]+[ ]?%))?(?:[ ]be)?
        [ ](?:known?|tell|told|sure|certain|clear|obvious|confident|possible|able|remember|recall
            |determined|(?<!would[ ]not[ ])(?<!wouldn't[ ])say)\b
    |(?<!\bthere[ ])\bcan(?:[ ]?not|'?t)\b
    |\bno[ ](?:telling|knowing|(?:way|means)[ ](?:to|of))\b
    |\b(?:hard|difficult|too[ ][a-z]+)[ ]to[ ](?:know|tell|say|see|judge)\b
    |\b(?:who|nobody|no[ -]?one)[ ](?:c(?:an|ould)[ ])?(?:know|tell|say)s?\b""",
    re.VERBOSE,
)
_HEAD = re.compile(r"(yes|no)(?!['/-]?\w)(?P<stop> ?[,.;:!–—-]*) *(?P<rest>.*)")
# What goes on after a bare "no"; any other word would make it "no roads", "no idea".
_GOES_ON = re.compile(
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


def clean(text: str) -> str:
    """Lower case, single spaces, without Markdown, quotes, ``Answer:`` and closing stops.

    The text ends at the first control token (``</s>``, ``<|im_end|>``), and in any case after a
    thousand characters. The end of a line ends a sentence.
    """
    text = _END.split(text[:_LONGEST].strip().translate(_NARROW).lower(), maxsplit=1)[0]
    text = _LINES.sub(". ", text.strip())
    before = None
    while text != before:  # quotes inside quotes, a prefix inside a prefix
        before = text
        text = _PREFIX.sub("", _MARKUP.sub("", " ".join(text.split())).strip())
        text = text.lstrip(" ':;([").rstrip(" .,;:!?')]…")
    return text


@lru_cache(maxsize=1 << 16)
def normalise(text: str, type: str) -> str | None:
    """The normal form of an answer to a question of a type.

    ========================  =====================================================
    ``presence``, ``comp``    ``yes`` or ``no``
    ``rural_urban``           ``rural`` or ``urban``
    ``count``                 an integer (``47``) or an official bucket
    ``area``                  square metres (``624m2``) or an official bucket
    any other                 ``yes`` or ``no`` where it opens so, else the cleaned text
    ========================  =====================================================

    Thoughts and the marks around an answer are taken off first, see `reply.spoken`. Normal forms
    are their own normal forms. ``none`` is no number: it is what a missing answer
    looks like once printed, and a quarter to a half of all counts are zero.

    Args:
        text: the answer as given or as stored.
        type: the question's type, see `grammar.question_type`.

    Returns:
        The normal form, or None where the text is no single, clear answer of that type.
    """
    text = spoken(text).text
    if len(text) > _LONGEST:
        return None
    answer = clean(text)
    if type in ("presence", "comp"):
        return _yes_no(answer, presence=type == "presence")
    if type == "rural_urban":
        return _rural_urban(answer)
    if type in ("count", "area"):
        return _quantity(answer, "m2" if type == "area" else "")
    if type == "LC":
        return answer or None
    return _yes_no(answer, presence=False) or answer or None


def understood(reply: str, type: str, cut: bool = False) -> tuple[str, str]:
    """How a reply is read.

    Args:
        reply: what the model gave.
        type: of the question.
        cut: whether it ended at the bound on its length, and not by itself.

    Returns:
        Its normal form, or else the answer in it as it stands; and why it cannot be read, one of
        `reply.CAUSES`, empty where it can.
    """
    answer, normal = spoken(reply), normalise(reply, type)
    if normal is None:
        return answer.text[:_LONGEST], CUT_OFF if cut else answer.cause or UNCLEAR
    return normal, CUT_OFF if cut and _goes_on(answer.text, type) else ""


def _goes_on(text: str, type: str) -> bool:
    """Whether more of an answer may have followed what can be read of it."""
    if type in ("count", "area"):
        return text.rstrip()[-1:].isdigit()
    return type not in ("presence", "comp", "rural_urban")


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text))


def _negated(words: set[str]) -> bool:
    return bool(words & _NEGATIONS) or any(word.endswith("n't") for word in words)


def _doubted(text: str, words: set[str]) -> bool:
    return bool(words & _DOUBTS or _IGNORANCE.search(text))


def _rural_urban(answer: str) -> str | None:
    words = _words(answer)
    named = words & {"rural", "urban"}
    if len(named) != 1 or words & _WEAKENED or _negated(words) or _doubted(answer, words):
        return None
    return named.pop()


def _yes_no(answer: str, presence: bool) -> str | None:
    head = _HEAD.fullmatch(answer)
    if head is None:
        return _existence(answer) if presence else None
    said, stop, rest = head[1], head["stop"].strip(), head["rest"]
    if said == "no" and rest and not stop and not _GOES_ON.match(rest):
        # "No roads": here "no" belongs to a noun.
        return _existence(answer) if presence else None
    if said == "no" and stop in ("", ".") and rest.isdecimal():
        return None  # "No. 12" is the name of a number
    if presence and (clause := _existence(rest)):
        return said if clause == said else None
    words = _words(rest)
    if _doubted(rest, words):
        return None
    return None if (_negated(words) if said == "yes" else "yes" in words) else said


def _existence(sentence: str) -> str | None:
    """``yes`` or ``no`` of ``There is a road``, ``No road is visible``, ``No roads``."""
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
    """Whether a phrase speaks of nothing but RSVQA's objects: ``no idea`` is not an absence."""
    words = [_singulars(word) for word in phrase.split()]
    return all(forms & _SCENE_WORDS for forms in words) and any(
        forms & NOUN_WORDS for forms in words
    )


def _singulars(word: str) -> set[str]:
    forms = {word, word.removesuffix("s"), word.removesuffix("es")}
    return forms | {word[:-3] + "y"} if word.endswith("ies") else forms


def _quantity(answer: str, unit: str) -> str | None:
    found = scan(answer)
    if found is None:
        return None
    if not found.values:
        return f"0{unit}" if _existence(answer) == "no" else None
    words = set(found.words)
    doubtful = _negated(words) or _doubted(found.template, words)
    return None if doubtful else quantity(found, unit)
