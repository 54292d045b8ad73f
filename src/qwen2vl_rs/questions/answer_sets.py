"""Candidate answers of each question type, for closed-set answering (candidate ranking).

Candidates have the form of the training answers. If these are raw counts or areas, each number is
a candidate; the probability of an official class is the sum over the candidates in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..known_datasets import all_datasets
from ..types import Sample
from .grammar import KIND, count_by
from .protocols import class_order, protocol
from .registry import OFFICIAL, all_types, type_named

# Limit per question type, which drops the rarest answers; also the size of xBEN's vocabulary.
MAX_CANDIDATES = 1000


@dataclass(frozen=True, slots=True)
class AnswerSet:
    """Candidate answers of one question type; its ``repr`` is part of the cache key of answers.

    Attributes:
        texts: the candidates, all different.
        classes: the official class of each candidate.
        covered: share of the training answers of the type that are candidates; 1 without any.
    """

    texts: tuple[str, ...]
    classes: tuple[str, ...]
    covered: float


def answer_sets(train: Iterable[Sample], dataset: str) -> Mapping[str, AnswerSet]:
    """Return the candidate answers of every question type that has any.

    The candidates are the training answers of the type. Without training answers, yes/no and
    rural/urban questions have their two choices, and counts and areas have the official buckets
    (`KnownDataset.bucketed`) or 0 to 89 (counts of HR: Lobry et al. 2020). Other counts and areas
    and all other types (xBEN's land cover, types of other data) have no candidates; types with
    options in each question have them per question, see `question_answer_set`. Types that only
    occur in another data set are left out.

    Args:
        train: the training questions; may be empty.
        dataset: ``LR``, ``HR``, …, or ``unknown``, see `questions.class_sets.resolve_dataset`.
    """
    taught: dict[str, Counter[str]] = {}
    for (kind, answer), n in count_by(train, KIND, "answer").items():
        taught.setdefault(kind, Counter())[" ".join(answer.split())] += n
    # types of another data set would change the cache key of every answer
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
        if type_named(kind).has_options:
            continue
        one = _set(kind, answers, dataset)
        # keep both choices, even if all training answers are the same one
        if one.texts and set(one.classes) >= set(type_named(kind).choices):
            found[kind] = one
    return found


def question_answer_set(kind: str, question: str) -> AnswerSet | None:
    """Return the candidate answers of a question that contains its own options, else None."""
    words = type_named(kind).of_question(question).choices if type_named(kind).has_options else ()
    return AnswerSet(words, words, 1) if words else None


def _set(kind: str, counts: Mapping[str, int], dataset: str) -> AnswerSet:
    """Keep the most frequent answers that have a class, in class order."""
    to_class = protocol("official").to_class
    classes = {text: to_class(text, kind, dataset) for text in counts}
    clear = [text for text, found in classes.items() if found is not None]
    kept = sorted(clear, key=lambda text: (-counts[text], text))[:MAX_CANDIDATES]
    kept.sort(key=class_order)
    share = sum(counts[text] for text in kept) / sum(counts.values())
    return AnswerSet(tuple(kept), tuple(classes[text] or "" for text in kept), share)
