"""Answer sets: what a question can be answered with when the answer is chosen, not written.

A set is written as the model was taught to write. Where the training answers are raw counts or
areas, the candidates are those, and an official class has as many candidates as there are
numbers in it; its probability is the sum of theirs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..known_datasets import known
from ..types import Sample
from .class_sets import UNKNOWN
from .grammar import KIND, counted
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

    Every type takes its candidates from its training answers. Without any that have a class,
    yes/no and rural/urban are closed by themselves, counts and areas take the official buckets
    (LR, areas) and 0 to 89 (counts of HR: Lobry et al. 2020); those of an unknown data set and
    any other type (xBEN's land cover, types of other data) have no set.

    Args:
        train: the training questions; may be none.
        dataset: ``LR``, ``HR``, ``xBEN`` or ``unknown``, see `datasets.settle`.
    """
    taught: dict[str, Counter[str]] = {}
    for (kind, answer), n in counted(train, KIND, "answer").items():
        taught.setdefault(kind, Counter())[" ".join(answer.split())] += n
    official = {**_WORDS, **_untaught(dataset)}
    found = {kind: _set(kind, dict.fromkeys(texts, 1), dataset) for kind, texts in official.items()}
    for kind, answers in taught.items():
        one = _set(kind, answers, dataset)
        # both words, though only one was the answer to all training questions
        if one.texts and set(one.classes) >= set(_WORDS.get(kind, ())):
            found[kind] = one
    return found


def _untaught(dataset: str) -> dict[str, list[str]]:
    if dataset == UNKNOWN:
        return {}
    official = {"count": [bucket(n) for n in _MIDDLES], "area": [bucket(n, "m2") for n in _MIDDLES]}
    return official | {kind: list(texts) for kind, texts in known()[dataset].answers.items()}


def _set(kind: str, counted: Mapping[str, int], dataset: str) -> AnswerSet:
    """The most frequent answers that have a class, in the order of their classes."""
    to_class = protocol("official").to_class
    classes = {text: to_class(text, kind, dataset) for text in counted}
    known = [text for text, found in classes.items() if found is not None]
    kept = sorted(known, key=lambda text: (-counted[text], text))[:MOST]
    kept.sort(key=class_order)
    share = sum(counted[text] for text in kept) / sum(counted.values())
    return AnswerSet(tuple(kept), tuple(classes[text] or "" for text in kept), share)
