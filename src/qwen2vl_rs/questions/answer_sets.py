"""Answer sets: what a question can be answered with when the answer is chosen, not written.

A set is written as the model was taught to write. Where the training answers are raw counts or
areas, the candidates are those, and an official class has as many candidates as there are
numbers in it; its probability is the sum of theirs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..known_datasets import all_datasets
from ..types import Sample
from .grammar import KIND, counted
from .protocols import class_order, protocol
from .registry import OFFICIAL, all_types, type_named

# Candidates of a type taught with raw numbers; 1,000 is also the size of xBEN's vocabulary. Rarer
# answers are left out.
MOST = 1000


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
    any other type (xBEN's land cover, types of other data) have no set, nor have those
    whose questions bring their own, see `own_set`. Types that only another
    data set has are closed by themselves with that one.

    Args:
        train: the training questions; may be none.
        dataset: ``LR``, ``HR``, ``xBEN`` or ``unknown``, see `questions.class_sets.settle`.
    """
    taught: dict[str, Counter[str]] = {}
    for (kind, answer), n in counted(train, KIND, "answer").items():
        taught.setdefault(kind, Counter())[" ".join(answer.split())] += n
    # those of another data set would be part of the key of every answer
    others = {n for one in all_datasets().values() if one.name != dataset for n in one.types}
    own = all_datasets()[dataset].types if dataset in all_datasets() else ()
    left_out = others - {one.name for one in OFFICIAL} - set(own)
    types = [name for name in all_types() if name not in left_out]
    untaught = {name: type_named(name).candidates(dataset) for name in types}
    found = {
        name: _set(name, dict.fromkeys(texts, 1), dataset)
        for name, texts in untaught.items()
        if texts
    }
    for kind, answers in taught.items():
        if type_named(kind).by_question:
            continue
        one = _set(kind, answers, dataset)
        # both words, though only one was the answer to all training questions
        if one.texts and set(one.classes) >= set(type_named(kind).words):
            found[kind] = one
    return found


def own_set(kind: str, question: str) -> AnswerSet | None:
    """The answer set of one question, where it says itself what it can be answered with."""
    words = type_named(kind).of_question(question).words if type_named(kind).by_question else ()
    return AnswerSet(words, words, 1) if words else None


def _set(kind: str, counted: Mapping[str, int], dataset: str) -> AnswerSet:
    """The most frequent answers that have a class, in the order of their classes."""
    to_class = protocol("official").to_class
    classes = {text: to_class(text, kind, dataset) for text in counted}
    clear = [text for text, found in classes.items() if found is not None]
    kept = sorted(clear, key=lambda text: (-counted[text], text))[:MOST]
    kept.sort(key=class_order)
    share = sum(counted[text] for text in kept) / sum(counted.values())
    return AnswerSet(tuple(kept), tuple(classes[text] or "" for text in kept), share)
