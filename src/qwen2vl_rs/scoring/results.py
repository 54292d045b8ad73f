"""Compute ``results.json``: scores of all protocols, baselines and gains over them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NotRequired, TypedDict

import numpy as np

from ..errors import DataError
from ..questions.class_sets import DatasetName, resolve_dataset
from ..questions.protocols import PROTOCOLS, Judged, Protocol, f1_of, judge, protocol, scores_of
from ..questions.reply import CAUSES, UNCLEAR, extract_answer
from ..types import Prediction, Sample
from . import baselines
from .baselines import TrainingCounts, count_training
from .comparison import match_runs
from .metrics import Counts, Score, calibration, cluster_codes, confusions, counting_errors, score
from .statistics import Codes, overall

NOT_SHUFFLED = "the model was not asked about other images"
NO_CONFIDENCE = "the predictions carry no confidence"
NO_QUESTIONS = "every question is of a type this protocol leaves out"
NO_TRAINING = "no training questions were given"
LEAKED_TRAINING = "every training question is about an image that is scored"
UNKNOWN_TYPE = "no training question of this type has a readable answer"
REASONS = (NOT_SHUFFLED, NO_CONFIDENCE, NO_QUESTIONS, NO_TRAINING, LEAKED_TRAINING, UNKNOWN_TYPE)
"""All reasons in ``left_out``."""
CONTROLS_OF = "controls of "
"""Prefix in ``left_out`` of a question type that the baselines do not know."""


class Gain(TypedDict):
    """A paired difference of OA over ``n`` questions, with its clustered 95 % interval."""

    n: int
    OA: float
    ci: list[float]


class TrainingQuestions(TypedDict):
    """Numbers of questions that the baselines are fitted on, and of those dropped as leaked."""

    n: int
    dropped: int


class Unreadable(TypedDict):
    """Wrong answers that cannot be read, in total and by cause (`reply.CAUSES`)."""

    n: int
    causes: dict[str, int]


class Results(TypedDict):
    """``results.json``; accuracies are fractions.

    ``dataset`` is the name of a known data set or ``unknown``; ``dataset_from`` is its source, see
    `questions.class_sets.DatasetName`. ``visual_gain``: OA minus OA of the question-only baseline;
    ``shuffled_cost``: OA minus OA of the same model with shuffled images. ``clustered_by``: what a
    cluster is; ``unreadable_truth``: number of ground truths without a normal form, which are never
    correct; ``left_out``: what is missing here, with reasons.
    """

    n: int
    dataset: str
    dataset_from: str
    clustered_by: str
    unreadable: Unreadable
    unreadable_truth: int
    protocols: dict[str, Score]
    controls: dict[str, dict[str, Score]]
    visual_gain: dict[str, Gain]
    shuffled_cost: dict[str, Gain]
    train: NotRequired[TrainingQuestions]
    counts: NotRequired[Counts]
    left_out: dict[str, str]


def results(
    predictions: Sequence[Prediction],
    *,
    train: Iterable[Sample] | None = None,
    shuffled: Sequence[Prediction] | None = None,
    protocols: Sequence[str] = tuple(PROTOCOLS),
    dataset: DatasetName | None = None,
) -> Results:
    """Score predictions.

    Args:
        predictions: answered questions, at least one.
        train: training questions, to fit the majority and question-only baselines; questions about
            test images are dropped.
        shuffled: predictions of the same model with shuffled images; matched by id, or else by
            original image and question.
        protocols: names, see `questions.protocols`.
        dataset: data set that defines the classes; None to take it from the predictions.

    Raises:
        DataError: there are no predictions.
        ConfigError: a protocol is unknown.
    """
    if not predictions:
        raise DataError("there are no predictions to score", hint="run: qwen2vl-rs eval")
    chosen = [protocol(name) for name in protocols]
    dataset = dataset or resolve_dataset(predictions)
    clusters, clustered_by = cluster_codes(predictions)
    found: Results = {
        "n": len(predictions),
        "dataset": dataset.name,
        "dataset_from": dataset.how,
        "clustered_by": clustered_by,
        "unreadable": unreadable(predictions, dataset.name),
        "unreadable_truth": _unreadable_truth(predictions, dataset.name),
        "protocols": {},
        "controls": {},
        "visual_gain": {},
        "shuffled_cost": {},
        "left_out": {},
    }
    questions = _training(train, predictions, found)
    pairs = _pairs(predictions, shuffled) if shuffled else None
    if pairs is None:
        found["left_out"] |= dict.fromkeys(("shuffled_image", "shuffled_cost"), NOT_SHUFFLED)
    for by in chosen:
        judged = judge(predictions, by, dataset.name)
        if not judged.types:
            found["left_out"][by.name] = NO_QUESTIONS
            continue
        found["protocols"][by.name] = _scored(judged, predictions, clusters)
        if questions:
            _add_baselines(found, judged, predictions, clusters, questions, by)
        if pairs:
            _add_shuffled(found, *pairs, by)
    if (counted := counting_errors(predictions)) is not None:
        found["counts"] = counted
    if all(p.confidence is None for p in predictions):
        found["left_out"]["calibration"] = NO_CONFIDENCE
    return found


def _pairs(
    predictions: Sequence[Prediction], shuffled: Sequence[Prediction]
) -> tuple[list[Prediction], list[Prediction]]:
    """Match the predictions with those on shuffled images."""
    _, own, other, common = match_runs(predictions, shuffled)
    return [own[key] for key in common], [other[key] for key in common]


def _add_shuffled(
    found: Results, own: Sequence[Prediction], other: Sequence[Prediction], by: Protocol
) -> None:
    """Add the accuracy with shuffled images, and the cost."""
    right, wrong = (judge(run, by, found["dataset"]) for run in (own, other))
    if right.types:
        clusters = cluster_codes(own)[0][right.index]
        scored = score(wrong.scores, wrong.types, clusters, wrong.f1)
        found["controls"].setdefault("shuffled_image", {})[by.name] = scored
        lost = right.scores - wrong.scores
        cost = overall(lost, clusters, low=-1.0)
        found["shuffled_cost"][by.name] = {"n": len(lost), "OA": cost.value, "ci": cost.ci}


def unreadable(predictions: Sequence[Prediction], dataset: str) -> Unreadable:
    """Count the wrong answers that cannot be read, by cause."""
    judged = judge(predictions, PROTOCOLS["official"], dataset)
    causes: Counter[str] = Counter()
    for p, predicted, one in zip(predictions, judged.predicted, judged.scores, strict=True):
        if one < 1 and (p.unreadable or predicted is None):
            causes[p.unreadable or extract_answer(p.text or p.prediction).cause or UNCLEAR] += 1
    return {"n": causes.total(), "causes": {c: causes[c] for c in CAUSES if causes[c]}}


def _unreadable_truth(predictions: Sequence[Prediction], dataset: str) -> int:
    return judge(predictions, PROTOCOLS["official"], dataset).gold.count(None)


def _training(
    train: Iterable[Sample] | None, predictions: Sequence[Prediction], found: Results
) -> TrainingCounts | None:
    why = NO_TRAINING
    if train is not None:
        questions = count_training(train, (p.image for p in predictions))
        found["train"] = {"n": questions.n, "dropped": questions.dropped}
        if questions.n:
            return questions
        why = LEAKED_TRAINING
    found["left_out"] |= dict.fromkeys(
        (*(c.name for c in baselines.BASELINES if c.fit), "visual_gain"), why
    )
    return None


def _scored(judged: Judged, predictions: Sequence[Prediction], clusters: Codes) -> Score:
    scored = score(judged.scores, judged.types, clusters[judged.index], judged.f1)
    for type, table in confusions(judged).items():
        scored["types"][type]["confusion"] = table
    confidence = [predictions[i].confidence for i in judged.index]
    known = np.array([c is not None for c in confidence])
    if known.any():
        values = np.array([c for c in confidence if c is not None], dtype=np.float64)
        scored["calibration"] = calibration(values, judged.scores[known])
    return scored


def _add_baselines(
    found: Results,
    judged: Judged,
    predictions: Sequence[Prediction],
    clusters: Codes,
    train: TrainingCounts,
    by: Protocol,
) -> None:
    """Add the baselines without image, and the gain over the question-only baseline.

    Types without training questions are left out of both: an unfitted baseline would flatter the
    model.
    """
    fitted = {
        one.name: one.fit(train, by, found["dataset"]) for one in baselines.BASELINES if one.fit
    }
    known = [fitted["question_only"].knows(type) for type in judged.types]
    for type, known_type in zip(judged.types, known, strict=True):
        if not known_type:
            found["left_out"][CONTROLS_OF + type] = UNKNOWN_TYPE
    kept = np.flatnonzero(known)
    if not len(kept):
        return
    own = [(predictions[judged.index[i]].question, judged.types[i]) for i in kept]
    types = [type for _, type in own]
    gold, clusters = [judged.gold[i] for i in kept], clusters[judged.index[kept]]
    answers = {name: [t.answer(*q) for q in own] for name, t in fitted.items()}
    blind = {name: scores_of(types, gold, given, by) for name, given in answers.items()}
    for name, one in blind.items():
        scored = score(one, types, clusters, f1_of(types, gold, answers[name]))
        found["controls"].setdefault(name, {})[by.name] = scored
    gained = judged.scores[kept] - blind["question_only"]
    gain = overall(gained, clusters, low=-1.0)
    found["visual_gain"][by.name] = {"n": len(gained), "OA": gain.value, "ci": gain.ci}
