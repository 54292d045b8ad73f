"""Answer sets: what a question can be answered with when the answer is chosen, not written.

A set is written as the model was taught to write. Where the training answers are raw counts or
areas, the candidates are those, and an official class has as many candidates as there are
numbers in it; its probability is the sum of theirs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..records import Sample
from .grammar import type_of
from .numbers import bucket
from .protocols import class_order, protocol

# Candidates of a type taught with raw numbers; 1,000 is also the size of xBEN's vocabulary. Rarer
# answers are left out.
MOST = 1000
_WORDS = {
    "presence": ("yes", "no"),
    "comp": ("yes", "no"),
    "rural_urban": ("rural", "urban"),
}
_MIDDLES = (0, 5, 50, 500, 5000)  # a number in each official bucket


@dataclass(frozen=True, slots=True)
class AnswerSet:
    """Candidates for the questions of one type.

    Attributes:
        texts: what can be said, all different.
        classes: the official class of each.
        covered: share of the training answers of the type that are among them; 1 without any.
    """

    texts: tuple[str, ...]
    classes: tuple[str, ...]
    covered: float


def answer_sets(train: Iterable[Sample], dataset: str) -> Mapping[str, AnswerSet]:
    """The answer set of every question type that has one.

    Yes/no and rural/urban are closed by themselves. Counts and areas take the candidates from the
    training answers, or without any the official buckets (LR, areas) and 0 to 89 (counts of HR:
    Lobry et al. 2020). Any other type (xBEN's land cover, types of other data) takes its training
    answers.

    Args:
        train: the training questions; may be none.
        dataset: ``LR``, ``HR`` or ``xBEN``, see `protocols.dataset_of`.
    """
    taught: dict[str, Counter[str]] = {}
    for sample in train:
        kind = type_of(sample)
        if kind not in _WORDS:
            taught.setdefault(kind, Counter())[" ".join(sample.answer.split())] += 1
    found = {kind: _set(kind, dict.fromkeys(words, 1), dataset) for kind, words in _WORDS.items()}
    for kind, texts in _untaught(dataset).items():
        found[kind] = _set(kind, dict.fromkeys(texts, 1), dataset)
    for kind, counted in taught.items():
        found[kind] = _set(kind, counted, dataset)
    return found


def _untaught(dataset: str) -> dict[str, list[str]]:
    counts = [str(n) for n in range(90)] if dataset == "HR" else [bucket(n) for n in _MIDDLES]
    return {"count": counts, "area": [bucket(n, "m2") for n in _MIDDLES]}


def _set(kind: str, counted: Mapping[str, int], dataset: str) -> AnswerSet:
    """The most frequent answers that have a class, in the order of their classes."""
    to_class = protocol("official").to_class
    classes = {text: to_class(text, kind, dataset) for text in counted}
    known = [text for text, found in classes.items() if found is not None]
    kept = sorted(known, key=lambda text: (-counted[text], text))[:MOST]
    kept.sort(key=class_order)
    share = sum(counted[text] for text in kept) / sum(counted.values())
    return AnswerSet(tuple(kept), tuple(classes[text] or "" for text in kept), share)
