"""Remove the run's instruction from questions that already contain it."""

from __future__ import annotations

import re
from functools import lru_cache

_LONGEST = 20_000  # characters; longer texts are not searched for the instruction
_STOPS = ".!:。！："
_BLANKS = re.compile(r"\s*")


def bare_question(question: str, instruction: str) -> str:
    """Return a question without the instruction, which every prompt already contains.

    Clients and data sets put it before or after the question, on a separate line or not. Case,
    whitespace and the final full stop may differ.

    Args:
        question: the question as given.
        instruction: the run's instruction; empty for none.

    Returns:
        The stripped question; empty if the text is the instruction only.
    """
    question = question.strip()
    if not instruction.strip() or len(question) > _LONGEST:
        return question
    before, behind = _instruction_at_ends(instruction)
    turned = question[::-1]  # a match at the end is one at the start of this
    size = len(question)
    start, end, was = 0, size, -1
    while end - start != was:  # each round reads only what it removes
        was = end - start
        if found := before.match(question, start, end):
            start = found.end()
        if found := behind.match(turned, size - end, size - start):
            end = size - found.end()
        if found := _BLANKS.match(question, start, end):
            start = found.end()
        if found := _BLANKS.match(turned, size - end, size - start):
            end = size - found.end()
    return question[start:end]


@lru_cache(16)
def _instruction_at_ends(instruction: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return patterns of the instruction at the start, and, reversed, at the end of a question."""
    words = instruction.strip()
    bare = words.rstrip(_STOPS) or words
    text = r"\s+".join(map(re.escape, bare.split()))
    turned = r"\s+".join(re.escape(word[::-1]) for word in reversed(bare.split()))
    # not inside a longer word; Chinese has no word boundaries
    start, end = (r"\b" if c.isascii() and c.isalnum() else "" for c in (bare[0], bare[-1]))
    stop = f"[{re.escape(_STOPS)}]"
    return (
        re.compile(rf"{start}{text}{end}(?:{stop}|(?=\s|\Z))", re.IGNORECASE),
        re.compile(rf"\s*{stop}?{turned}{start}", re.IGNORECASE),
    )
