"""`Finding`: a fault in a data set, how serious it is, examples, and how to fix it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "error"]
EXAMPLES = 3
"""Number of examples of a finding."""


@dataclass(frozen=True, slots=True)
class Example:
    """One question or image that a finding is about.

    Attributes:
        part: ``train``, ``val``, ``test``, …
        id: of the question.
        image: path of its image.
        file: file of the question; empty if the questions are not from a file.
        number: which question of that file it is, counted from 1; None if unknown.
        detail: what is wrong with it.
    """

    part: str = ""
    id: str = ""
    image: str = ""
    file: str = ""
    number: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        check: name of the check, e.g. ``missing_images``.
        verdict: ``error`` if training would stop or its result would be wrong, ``warning`` if it
            should be known, else ``ok``.
        count: number of questions or images concerned.
        text: the finding as a sentence.
        hint: how to fix it; empty if there is nothing to fix.
        examples: the first few of them.
    """

    check: str
    verdict: Verdict
    count: int
    text: str
    hint: str = ""
    examples: Sequence[Example] = ()


def no_fault(check: str, text: str) -> Finding:
    """Return the finding of a check that found nothing."""
    return Finding(check, "ok", 0, text)


def joined(texts: Sequence[str]) -> str:
    """Join texts: ``a``, ``a and b``, ``a, b and c``."""
    *first, last = texts
    return f"{', '.join(first)} and {last}" if first else last
