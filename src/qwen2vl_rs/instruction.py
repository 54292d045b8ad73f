"""The instruction of a run, where a question brings it along."""

from __future__ import annotations

import re
from functools import lru_cache

_LONGEST = 20_000  # characters in which an instruction is looked for: more is no question
_STOPS = ".!:。！："
_BLANKS = re.compile(r"\s*")


def bare_question(question: str, instruction: str) -> str:
    """A question without the instruction that stands in every prompt already.

    Clients and data sets put it before the question or behind it, on a line of its own or not;
    neither case, nor blanks, nor its full stop have to be the same.

    Args:
        question: as it was asked.
        instruction: of the run; empty for none.

    Returns:
        The question without outer blanks; empty where the instruction is all there is.
    """
    question = question.strip()
    if not instruction.strip() or len(question) > _LONGEST:
        return question
    before, behind = _instruction_at_ends(instruction)
    turned = question[::-1]  # a match at the end is one at the start of this
    size = len(question)
    start, end, was = 0, size, -1
    while end - start != was:  # each round reads what it takes off, and no more
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
    """Patterns of the instruction at the start of a question, and of one read from its end."""
    words = instruction.strip()
    bare = words.rstrip(_STOPS) or words
    text = r"\s+".join(map(re.escape, bare.split()))
    turned = r"\s+".join(re.escape(word[::-1]) for word in reversed(bare.split()))
    # no part of a longer word; Chinese writes none apart
    start, end = (r"\b" if c.isascii() and c.isalnum() else "" for c in (bare[0], bare[-1]))
    stop = f"[{re.escape(_STOPS)}]"
    return (
        re.compile(rf"{start}{text}{end}(?:{stop}|(?=\s|\Z))", re.IGNORECASE),
        re.compile(rf"\s*{stop}?{turned}{start}", re.IGNORECASE),
    )
