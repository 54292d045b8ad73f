"""Clean answers (case, spaces, Markdown, quotes), and detect negated or hedged answers."""

from __future__ import annotations

import re

from .wording import word_set

LONGEST = 1000  # characters; RSVQA's answers have under 30

# Fullwidth forms of Chinese keyboards. No other compatibility forms: 10² is not 102.
_NARROW = {0xFF01 + i: 0x21 + i for i in range(94)}
_NARROW |= {ord("’"): 0x27, ord("‘"): 0x27, ord("。"): 0x2E, ord("、"): 0x2C}
_END = re.compile(r"</s>|<\|[^<>|]*\|>|<end_of_turn>")  # text after these is dropped
_LINES = re.compile(r"(?<=\w)\s*[\r\n]\s*")
_MARKUP = re.compile(r"(?<![0-9])[*_`\"“”#]+|[*_`\"“”#]+(?![0-9])")
_PREFIX = re.compile(r"^(?:- )?(?:(?:the )?(?:final |correct )?answer(?: is\b:?|:) *)?")
_WORD = re.compile(r"[a-z]+(?:['-][a-z]+)*")

_NEGATIONS = word_set(
    "no non not none nothing never without neither nor cannot lack lacks lacking absent"
)
# Words that retract, hedge or refuse an answer.
_DOUBTS = word_set(
    """or but however although though maybe perhaps unclear unsure uncertain unknown unable
    impossible sorry either if whether unless except enough information determine depends hardly
    barely scarcely idea clue dunno"""
)
# Phrases that say "I do not know". "Not that I know" and "not one can be seen" do not.
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


def clean(text: str) -> str:
    """Convert to lower case and single spaces; remove Markdown, quotes, ``Answer:``, end stops.

    The text is cut at the first control token (``</s>``, ``<|im_end|>``) and after a thousand
    characters. A line break ends a sentence.
    """
    text = _END.split(text[:LONGEST].strip().translate(_NARROW).lower(), maxsplit=1)[0]
    text = _LINES.sub(". ", text.strip())
    before = None
    while text != before:  # quotes inside quotes, a prefix inside a prefix
        before = text
        text = _PREFIX.sub("", _MARKUP.sub("", " ".join(text.split())).strip())
        text = text.lstrip(" ':;([").rstrip(" .,;:!?')]…")
    return text


def words_of(text: str) -> set[str]:
    """Return the words of a text."""
    return set(_WORD.findall(text))


def is_negated(words: set[str]) -> bool:
    """Whether one of the words is a negation."""
    return bool(words & _NEGATIONS) or any(word.endswith("n't") for word in words)


def is_hedged(text: str, words: set[str]) -> bool:
    """Whether a text retracts, hedges or refuses an answer."""
    return bool(words & _DOUBTS or _IGNORANCE.search(text))
