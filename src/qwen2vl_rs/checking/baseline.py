"""What a learner that sees only the text answers: the question-only baseline on each part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..datasets.base import Dataset
from ..questions.grammar import KIND
from ..questions.protocols import PROTOCOLS, f1_of, scores_of
from ..scoring.baselines import TrainingCounts, count_training, question_only_baseline
from ..scoring.metrics import Score, score

_BY = PROTOCOLS["official"]


@dataclass(frozen=True, slots=True)
class TextOnly:
    """The question-only baseline on the questions of a part.

    Attributes:
        part: name of the part.
        train: number of training questions it was fitted on.
        dropped: number of training questions about images of the part, which are not used.
        unknown: number of questions of types without training questions, which are not scored.
        score: its accuracies under the official protocol; None if no question is scored.
    """

    part: str
    train: int
    dropped: int
    unknown: int
    score: Score | None


def text_only(train: Dataset, asked: Dataset, part: str, dataset: str) -> TextOnly:
    """Fit the question-only baseline and score it, as `scoring.results` does beside a model.

    Args:
        train: training questions.
        asked: questions to score.
        part: name of their part.
        dataset: data set that defines the classes.
    """
    taught = count_training(train, asked.distinct("image"))
    if not taught.n:
        return TextOnly(part, 0, taught.dropped, len(asked), None)
    kinds, names = asked.codes(KIND)
    known, scores, f1 = _judged(taught, asked, dataset)
    kept = np.flatnonzero(known)
    found = None
    if len(kept):
        types = [names[kind] for kind in kinds[kept]]
        clusters = asked.codes("image")[0][kept]
        found = score(scores[kept], types, clusters, f1[kept])
    return TextOnly(part, taught.n, taught.dropped, len(asked) - len(kept), found)


def _judged(taught: TrainingCounts, asked: Dataset, dataset: str) -> Sequence[np.ndarray]:
    """Return whether each question is of a known type, its score and F1.

    Questions with the same wording, type and answer are judged once.
    """
    table = question_only_baseline(taught, _BY, dataset)
    columns = [asked.codes(name) for name in ("question", KIND, "answer")]
    key = np.zeros(len(asked), dtype=np.int64)
    for codes, values in columns:
        key = key * max(len(values), 1) + codes
    _, first, back = np.unique(key, return_index=True, return_inverse=True)
    rows = list(
        zip(*([values[code] for code in codes[first]] for codes, values in columns), strict=True)
    )
    types = [kind for _, kind, _ in rows]
    gold = [_BY.to_class(answer, kind, dataset, question) for question, kind, answer in rows]
    said = [table.answer(question, kind) for question, kind, _ in rows]
    known = np.array([table.knows(kind) for kind in types], dtype=np.bool_)
    return [
        known[back],
        scores_of(types, gold, said, _BY)[back],
        f1_of(types, gold, said)[back],
    ]
