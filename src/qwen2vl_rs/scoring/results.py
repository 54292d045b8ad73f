"""From predictions to ``results.json``: every protocol, every control, nothing on its own."""

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
from .baselines import Questions, gather
from .comparison import match
from .metrics import Counts, Score, calibration, cluster_codes, confusions, counts, score
from .statistics import Codes, overall

NOT_SHUFFLED = "the model was not asked about other images"
NO_CONFIDENCE = "the predictions carry no confidence"
NO_QUESTIONS = "every question is of a type this protocol leaves out"
NO_TRAINING = "no training questions were given"
LEAKED_TRAINING = "every training question is about an image that is scored"
UNKNOWN_TYPE = "no training question of this type has a readable answer"
REASONS = (NOT_SHUFFLED, NO_CONFIDENCE, NO_QUESTIONS, NO_TRAINING, LEAKED_TRAINING, UNKNOWN_TYPE)
"""All that ``left_out`` may give as a reason."""
CONTROLS_OF = "controls of "
"""In ``left_out`` before the name of a type that the controls know nothing of."""


class Gain(TypedDict):
    """A paired difference of OA over ``n`` questions, with its clustered 95 % interval."""

    n: int
    OA: float
    ci: list[float]


class TrainingQuestions(TypedDict):
    """Questions the controls were fitted on, and those dropped: their image is scored."""

    n: int
    dropped: int


class Unreadable(TypedDict):
    """Wrong answers that could not be read, and how many for each cause (`reply.CAUSES`)."""

    n: int
    causes: dict[str, int]


class Results(TypedDict):
    """``results.json``; accuracies are fractions.

    ``dataset`` is ``LR``, ``HR``, ``xBEN`` or ``unknown``; ``dataset_from`` says who says so, see
    `questions.class_sets.DatasetName`.
    ``visual_gain``: OA minus that of the question-only table; ``shuffled_cost``: OA minus that of
    the same model shown another image. ``clustered_by`` says what a cluster is;
    ``unreadable_truth`` counts true answers that have no normal form for their type, which nobody
    can get right; ``left_out`` says why something that belongs here is absent.
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
        train: training questions, on which the constant and the question-only control are
            fitted; those about an image that is scored are dropped.
        shuffled: the same questions answered by the same model about other images; told by
            their ids, or else by the image a question belongs to.
        protocols: names, see `questions.protocols`.
        dataset: whose classes apply; None for what the predictions say.

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
            _blind(found, judged, predictions, clusters, questions, by)
        if pairs:
            _misled(found, *pairs, by)
    if (counted := counts(predictions)) is not None:
        found["counts"] = counted
    if all(p.confidence is None for p in predictions):
        found["left_out"]["calibration"] = NO_CONFIDENCE
    return found


def _pairs(
    predictions: Sequence[Prediction], shuffled: Sequence[Prediction]
) -> tuple[list[Prediction], list[Prediction]]:
    """The questions that were also asked about another image, and the answers to them then."""
    _, own, other, common = match(predictions, shuffled)
    return [own[key] for key in common], [other[key] for key in common]


def _misled(
    found: Results, own: Sequence[Prediction], other: Sequence[Prediction], by: Protocol
) -> None:
    """Add the accuracy with wrong images, and what they cost."""
    right, wrong = (judge(run, by, found["dataset"]) for run in (own, other))
    if right.types:
        clusters = cluster_codes(own)[0][right.index]
        scored = score(wrong.scores, wrong.types, clusters, wrong.f1)
        found["controls"].setdefault("shuffled_image", {})[by.name] = scored
        lost = right.scores - wrong.scores
        cost = overall(lost, clusters, low=-1.0)
        found["shuffled_cost"][by.name] = {"n": len(lost), "OA": cost.value, "ci": cost.ci}


def unreadable(predictions: Sequence[Prediction], dataset: str) -> Unreadable:
    """The wrong answers that could not be read, by cause."""
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
) -> Questions | None:
    why = NO_TRAINING
    if train is not None:
        questions = gather(train, predictions)
        found["train"] = {"n": questions.n, "dropped": questions.dropped}
        if questions.n:
            return questions
        why = LEAKED_TRAINING
    found["left_out"] |= dict.fromkeys(
        (*(c.name for c in baselines.CONTROLS if c.fit), "visual_gain"), why
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


def _blind(
    found: Results,
    judged: Judged,
    predictions: Sequence[Prediction],
    clusters: Codes,
    train: Questions,
    by: Protocol,
) -> None:
    """Add the controls that never see the image, and the gain over the question-only table.

    Types that no training question is of are left out of both: a table that could not answer
    would flatter the model.
    """
    fitted = {
        one.name: one.fit(train, by, found["dataset"]) for one in baselines.CONTROLS if one.fit
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
    said = {name: [t.answer(*q) for q in own] for name, t in fitted.items()}
    blind = {name: scores_of(types, gold, answers) for name, answers in said.items()}
    for name, one in blind.items():
        scored = score(one, types, clusters, f1_of(types, gold, said[name]))
        found["controls"].setdefault(name, {})[by.name] = scored
    gained = judged.scores[kept] - blind["question_only"]
    gain = overall(gained, clusters, low=-1.0)
    found["visual_gain"][by.name] = {"n": len(gained), "OA": gain.value, "ci": gain.ci}
