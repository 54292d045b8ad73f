"""Balance the answers of each question, so that a question-only baseline gains nothing.

In RSVQA most questions have a typical answer: a question-only baseline is correct in three of four
cases. Here the answers of each question (independent of its template) are equally frequent over all
images; questions with only one answer are dropped. Counts and areas are balanced by the classes in
which they are scored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator

from ..questions.protocols import protocol
from .questions import Question

#: Candidate questions per question wanted.
SURPLUS = 4
_ROUNDS = 2


def balance(
    rng: Generator, pools: Sequence[Sequence[Question]], number: int, dataset: str
) -> list[list[Question]]:
    """Choose questions of many images with balanced answers.

    Args:
        rng: random generator.
        pools: candidate questions per image, about `SURPLUS` times as many as wanted.
        number: maximal number of questions per image.
        dataset: ``LR`` or ``HR``, which defines the classes of counts.

    Returns:
        The chosen questions of each image, in order.
    """
    to_class = protocol("official").to_class
    flat = [(image, q) for image, pool in enumerate(pools) for q in pool]
    label = [(q.key, to_class(q.answer, q.type, dataset)) for _, q in flat]
    images = [image for image, _ in flat]
    kept = np.arange(len(flat))
    for _ in range(_ROUNDS):
        kept = _level(rng, kept, label)
        kept = _at_most(rng, kept, images, lambda _: number)
    kept = _level(rng, kept, label)
    chosen: list[list[Question]] = [[] for _ in pools]
    for k in np.sort(kept).tolist():
        image, question = flat[k]
        chosen[image].append(question)
    return chosen


def _level(rng: Generator, kept: np.ndarray, label: Sequence[tuple[object, object]]) -> np.ndarray:
    """Limit each answer of a question to the frequency of the second most frequent one."""
    count = Counter(label[k] for k in kept.tolist())
    answers: dict[object, list[int]] = {}
    for (key, _), n in count.items():
        answers.setdefault(key, []).append(n)
    limit = {key: sorted(n)[-2] if len(n) > 1 else 0 for key, n in answers.items()}
    return _at_most(rng, kept, label, lambda one: limit[one[0]])


def _at_most(
    rng: Generator, kept: np.ndarray, group: Sequence[Any], limit: Callable[[Any], int]
) -> np.ndarray:
    """Keep at most the limit of each group, chosen at random."""
    taken: Counter[Any] = Counter()
    chosen = []
    for k in rng.permutation(kept).tolist():
        if taken[group[k]] < limit(group[k]):
            taken[group[k]] += 1
            chosen.append(k)
    return np.array(chosen, dtype=np.intp)
