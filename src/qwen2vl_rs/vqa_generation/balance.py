"""Questions whose wording does not give the answer away.

In RSVQA, as in the world, most questions have a usual answer: a table that never sees an image is
right three times in four. Here every question that is asked has its answers equally often, over
all images: of each question (whatever its template), as many are kept with one answer as with the
next. What has one answer only is left out. Counts and areas are balanced by the classes in which
they are scored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator

from ..questions.protocols import protocol
from .questions import Question

#: Questions to choose from for each that is wanted.
SURPLUS = 4
_ROUNDS = 2


def balance(
    rng: Generator, pools: Sequence[Sequence[Question]], number: int, dataset: str
) -> list[list[Question]]:
    """Choose questions of many images so that none gives its answer away.

    Args:
        rng: source of all that is random.
        pools: questions of each image, about `SURPLUS` times as many as are wanted.
        number: most questions of one image.
        dataset: ``LR`` or ``HR``: in which classes counts are scored.

    Returns:
        For each image the questions chosen, in their order.
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
    """Of each question, no answer more often than the second most frequent."""
    count = Counter(label[k] for k in kept.tolist())
    answers: dict[object, list[int]] = {}
    for (key, _), n in count.items():
        answers.setdefault(key, []).append(n)
    limit = {key: sorted(n)[-2] if len(n) > 1 else 0 for key, n in answers.items()}
    return _at_most(rng, kept, label, lambda one: limit[one[0]])


def _at_most(
    rng: Generator, kept: np.ndarray, group: Sequence[Any], limit: Callable[[Any], int]
) -> np.ndarray:
    """Of each group no more than its limit, chosen at random."""
    taken: Counter[Any] = Counter()
    chosen = []
    for k in rng.permutation(kept).tolist():
        if taken[group[k]] < limit(group[k]):
            taken[group[k]] += 1
            chosen.append(k)
    return np.array(chosen, dtype=np.intp)
