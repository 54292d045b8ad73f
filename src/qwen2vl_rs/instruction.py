"""The instruction of a run, where a question brings it along."""

from __future__ import annotations

import re
from functools import lru_cache

_LONGEST = 20_000  # characters in which an instruction is looked for: more is no question
_STOPS = ".!:。！："


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
    while (rest := behind.sub("", before.sub("", question)).strip()) != question:
        question = rest
    return question


@lru_cache(16)
def _instruction_at_ends(instruction: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    words = instruction.strip()
    bare = words.rstrip(_STOPS) or words
    text = r"\s+".join(map(re.escape, bare.split()))
    # no part of a longer word; Chinese writes none apart
    start, end = (r"\b" if c.isascii() and c.isalnum() else "" for c in (bare[0], bare[-1]))
    text = start + text + end
    stop = f"[{re.escape(_STOPS)}]"
    return (
        re.compile(rf"\A{text}(?:{stop}|(?=\s|\Z))", re.IGNORECASE),
        re.compile(rf"{text}{stop}?\s*\Z", re.IGNORECASE),
    )
