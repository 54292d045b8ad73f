"""Lengths in tokens: of questions, answers, images, and of a question with its image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..system.console import Progress, counted
from .findings import EXAMPLES, Finding, no_fault
from .parts import Parts
from .remembered import Picture


class Ruler(Protocol):
    """Counts tokens as a base model's tokenizer and image processor make them."""

    @property
    def fixed(self) -> int:
        """Tokens of the prompt before the question, without the image."""

    def question(self, text: str) -> int:
        """Return the tokens of a question, up to the start of its answer."""

    def answer(self, text: str) -> int:
        """Return the tokens of an answer with its end token."""

    def image(self, width: int, height: int) -> int:
        """Return the visual tokens of an image of this size in pixels."""


@dataclass(frozen=True, slots=True)
class Range:
    """Lengths in tokens.

    Attributes:
        low, median, high: the smallest, the median and the largest.
    """

    low: int
    median: float
    high: int


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths in tokens over all questions and images.

    Attributes:
        question: questions, up to the start of the answer.
        answer: answers, with the end token.
        image: visual tokens of an image; None if no image can be used.
        sequence: prompt, image, question and answer together; None if no image can be used.
        limit: ``training.max_tokens_per_pack``; None: chosen for the device.
    """

    question: Range
    answer: Range
    image: Range | None
    sequence: Range | None
    limit: int | None


def lengths(
    parts: Parts, ruler: Ruler, pictures: Mapping[str, Picture], limit: int | None
) -> tuple[Lengths, list[Finding]]:
    """Measure all questions, answers and images, each distinct one once.

    Args:
        parts: the questions.
        ruler: counts tokens.
        pictures: the usable images by path.
        limit: ``training.max_tokens_per_pack``.
    """
    asked = _measured(parts, "question", ruler.question)
    said = _measured(parts, "answer", ruler.answer)
    sizes = {(one.width, one.height) for one in pictures.values()}
    tokens = {size: ruler.image(*size) for size in sizes}
    per_image = np.zeros(len(parts.image_paths), dtype=np.int64)
    for code, path in enumerate(parts.image_paths):
        if one := pictures.get(path):
            per_image[code] = tokens[one.width, one.height]
    shown = per_image[parts.images]
    rows = np.flatnonzero(shown)
    whole = ruler.fixed + shown + asked + said
    usable = per_image[per_image > 0]
    found = Lengths(
        _range(asked),
        _range(said),
        _range(usable) if len(usable) else None,
        _range(whole[rows]) if len(rows) else None,
        limit,
    )
    return found, [] if limit is None else [_too_long(parts, rows, whole, limit)]


def _too_long(
    parts: Parts, rows: NDArray[np.int64], whole: NDArray[np.int64], limit: int
) -> Finding:
    over = rows[whole[rows] > limit]
    where = f"training.max_tokens_per_pack ({limit:,})"
    if not len(over):
        return no_fault("too_long", f"every question with its image is within {where}")
    text = f"{counted(len(over), 'question')} with image and answer longer than {where}"
    hint = "raise it, or lower view.max_pixels: these packs are longer, nothing is truncated"
    longest = over[np.argsort(-whole[over], kind="stable")][:EXAMPLES]
    examples = [parts.example(row, f"{whole[row]:,} tokens") for row in longest]
    return Finding("too_long", "warning", len(over), text, hint, examples)


def _measured(parts: Parts, name: str, count: Callable[[str], int]) -> NDArray[np.int64]:
    codes, texts = parts.all.codes(name)
    found = np.zeros(len(texts), dtype=np.int64)
    with Progress(f"tokenising {name}s", len(texts), f"{name}s") as bar:
        for place, text in enumerate(texts):
            found[place] = count(text)
            bar.advance()
    measured: NDArray[np.int64] = found[codes]
    return measured


def _range(values: NDArray[np.int64]) -> Range:
    return Range(int(values.min()), float(np.median(values)), int(values.max()))
