"""Metrics of one run: accuracies, confusion matrices, counting errors, calibration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple, NotRequired, TypedDict

import numpy as np

from ..questions.grammar import type_of
from ..questions.normal_forms import normalise
from ..questions.numbers import bucket
from ..questions.protocols import Judged, class_order
from ..questions.registry import all_types, type_named
from ..types import Prediction
from .statistics import Codes, Floats, estimate, overall

NO_ANSWER = "(no clear answer)"
OTHERS = "(other)"
_MOST_CLASSES = 12
_BINS = 10

Confusion = dict[str, dict[str, int]]


class Calibration(TypedDict):
    """Calibration of the confidence.

    ``ece``: expected calibration error over ten bins of equal width (Naeini et al. 2015);
    ``curve``: these bins; ``aurc``: area under the risk-coverage curve (Geifman & El-Yaniv 2017);
    ``risk_coverage``: its points ``[coverage, risk]``, most confident first.
    """

    n: int
    ece: float
    curve: list[dict[str, float]]
    aurc: float
    risk_coverage: list[list[float]]


class ListScore(TypedDict):
    """Mean order-free F1 of lists; fractions, clustered by image."""

    value: float
    se: float | None
    ci: list[float]


class TypeScore(TypedDict):
    """Accuracy on one question type; fractions, clustered by image.

    ``f1`` is present if the answers of the type are lists.
    """

    n: int
    accuracy: float
    se: float | None
    ci: list[float]
    f1: NotRequired[ListScore]
    confusion: NotRequired[Confusion]


class Score(TypedDict):
    """Accuracies of one run under one protocol; fractions, clustered by image.

    ``calibration`` is present if confidences are known.
    """

    n: int
    OA: float
    AA: float
    OA_se: float | None
    OA_ci: list[float]
    AA_se: float | None
    AA_ci: list[float]
    clusters: int
    types: dict[str, TypeScore]
    calibration: NotRequired[Calibration]


class Counts(TypedDict):
    """Numeric errors of count questions.

    ``numbers`` of the ``n`` predictions are numbers (not buckets or sentences); ``mae`` is their
    mean absolute error, ``median_error`` the median, which is robust to outliers; None if there are
    no numbers. ``exact`` and ``bucket`` are accuracies over all ``n``, with intervals clustered by
    image.
    """

    n: int
    numbers: int
    mae: float | None
    median_error: float | None
    exact: float
    exact_ci: list[float]
    bucket: float
    bucket_ci: list[float]
    by_magnitude: NotRequired[dict[str, Counts]]


def type_order(types: Iterable[str]) -> list[str]:
    """Return the distinct types in the order of the published tables, then others by name."""
    rank = {name: i for i, name in enumerate(all_types())}
    return sorted(set(types), key=lambda name: (rank.get(name, len(rank)), name))


def cluster_codes(predictions: Sequence[Prediction]) -> tuple[Codes, str]:
    """Return the cluster of each prediction, and what a cluster is.

    A prediction without an image is a cluster of its own.
    """
    known: dict[str, int] = {}
    codes = [known.setdefault(p.image or f"\0{i}", len(known)) for i, p in enumerate(predictions)]
    named = sum(bool(p.image) for p in predictions)
    how = "image" if named == len(codes) else "image where given" if named else "question"
    return np.array(codes, dtype=np.intp), how


def group_codes(types: Sequence[str]) -> tuple[list[str], Codes]:
    """Return the ordered types, and the type of each question as a code."""
    names = type_order(types)
    code = {name: i for i, name in enumerate(names)}
    return names, np.array([code[t] for t in types], dtype=np.intp)


def score(scores: Floats, types: Sequence[str], clusters: Codes, f1: Floats) -> Score:
    """Compute accuracy by type, their unweighted mean (AA) and the overall accuracy (OA).

    Args:
        scores: score of each answer, from 0 to 1; at least one.
        types: question type of each answer.
        clusters: cluster of each answer, see `cluster_codes`.
        f1: F1 of each answer, see `questions.protocols.f1_of`.
    """
    names, groups = group_codes(types)
    oa, aa = overall(scores, clusters), estimate(scores, groups, clusters)
    by_type: dict[str, TypeScore] = {}
    for code, name in enumerate(names):
        mine = groups == code
        one = overall(scores[mine], clusters[mine])
        by_type[name] = {
            "n": int(mine.sum()),
            "accuracy": one.value,
            "se": one.se,
            "ci": one.ci,
        }
        if not np.isnan(f1[mine]).any():
            lists = overall(f1[mine], clusters[mine])
            by_type[name]["f1"] = {"value": lists.value, "se": lists.se, "ci": lists.ci}
    return {
        "n": len(scores),
        "OA": oa.value,
        "AA": aa.value,
        "OA_se": oa.se,
        "OA_ci": oa.ci,
        "AA_se": aa.se,
        "AA_ci": aa.ci,
        "clusters": oa.clusters,
        "types": by_type,
    }


def confusions(judged: Judged) -> dict[str, Confusion]:
    """Return ``{true class: {predicted class: n}}`` per type, classes in order, without zeros.

    All but the twelve most frequent classes of a type are merged.
    """
    pairs: dict[str, Counter[tuple[str, str]]] = {}
    for type, gold, predicted in zip(judged.types, judged.gold, judged.predicted, strict=True):
        pair = (gold or NO_ANSWER, predicted or NO_ANSWER)
        pairs.setdefault(type, Counter())[pair] += 1
    return {type: _confusion(pairs[type]) for type in type_order(pairs)}


def _confusion(pairs: Counter[tuple[str, str]]) -> Confusion:
    sizes: Counter[str] = Counter()
    for pair, n in pairs.items():
        for label in pair:
            sizes[label] += n
    ranked = sorted(sizes.keys() - {NO_ANSWER}, key=lambda label: (-sizes[label], label))
    kept = {*ranked[:_MOST_CLASSES], NO_ANSWER}
    merged: Counter[tuple[str, str]] = Counter()
    for (gold, predicted), n in pairs.items():
        merged[gold if gold in kept else OTHERS, predicted if predicted in kept else OTHERS] += n
    table: Confusion = {}
    for gold, predicted in sorted(merged, key=lambda pair: [_label_order(x) for x in pair]):
        table.setdefault(gold, {})[predicted] = merged[gold, predicted]
    return table


def _label_order(label: str) -> tuple[bool, tuple[int, float, str]]:
    return label in (NO_ANSWER, OTHERS), class_order(label)


def calibration(confidence: Floats, scores: Floats) -> Calibration:
    """Compare confidence with correctness.

    Args:
        confidence: probability of the answer under the model, in [0, 1]; at least one.
        scores: score of the answer, from 0 to 1.
    """
    bins = np.minimum((confidence * _BINS).astype(np.intp), _BINS - 1)
    curve = []
    ece = 0.0
    for i in range(_BINS):
        mine = bins == i
        if not mine.any():
            continue
        mean, accuracy = float(confidence[mine].mean()), float(scores[mine].mean())
        ece += abs(mean - accuracy) * float(mine.mean())
        curve.append(
            {
                "low": i / _BINS,
                "high": (i + 1) / _BINS,
                "n": int(mine.sum()),
                "confidence": mean,
                "accuracy": accuracy,
            }
        )
    risks = _risks(confidence, scores)
    n = len(risks)
    marks = sorted({max(1, round(n * percent / 100)) for percent in range(1, 101)})
    return {
        "n": n,
        "ece": ece,
        "curve": curve,
        "aurc": float(risks.mean()),
        "risk_coverage": [[k / n, float(risks[k - 1])] for k in marks],
    }


def _risks(confidence: Floats, scores: Floats) -> Floats:
    """Return the error rate of the k most confident answers, k = 1 … n; ties in expectation."""
    _, ties = np.unique(-confidence, return_inverse=True)
    errors = np.bincount(ties, weights=1 - scores) / np.bincount(ties)
    expected = errors[np.sort(ties)]
    return np.cumsum(expected) / np.arange(1, len(expected) + 1)


def counting_errors(predictions: Sequence[Prediction]) -> Counts | None:
    """Compute counting errors, in total and by official bucket of the true count.

    Returns:
        None if no count question has a whole number as ground truth.
    """
    rows = []
    clusters = cluster_codes(predictions)[0].tolist()
    for p, cluster in zip(predictions, clusters, strict=True):
        if type_named(type := type_of(p)).exact_numbers:
            gold, normal = normalise(p.answer, type), normalise(p.prediction, type)
            if gold and gold.isdecimal():
                rows.append(_Counted(int(gold), normal, cluster))
    if not rows:
        return None
    magnitudes: dict[str, list[_Counted]] = {}
    for row in sorted(rows, key=lambda row: row.gold):
        magnitudes.setdefault(bucket(row.gold), []).append(row)
    whole = _counts(rows)
    whole["by_magnitude"] = {name: _counts(part) for name, part in magnitudes.items()}
    return whole


class _Counted(NamedTuple):
    """A true count, the normal form of the prediction, and the cluster."""

    gold: int
    predicted: str | None
    cluster: int

    @property
    def number(self) -> int | None:
        return int(self.predicted) if self.predicted and self.predicted.isdecimal() else None

    @property
    def inside(self) -> bool:
        """Whether the prediction is in the bucket of the true count."""
        return bucket(self.gold) == (self.predicted if self.number is None else bucket(self.number))


def _counts(rows: Sequence[_Counted]) -> Counts:
    errors = [abs(row.gold - row.number) for row in rows if row.number is not None]
    _, clusters = np.unique([row.cluster for row in rows], return_inverse=True)
    exact = overall(np.array([float(row.gold == row.number) for row in rows]), clusters)
    inside = overall(np.array([float(row.inside) for row in rows]), clusters)
    return {
        "n": len(rows),
        "numbers": len(errors),
        "mae": sum(errors) / len(errors) if errors else None,
        "median_error": float(median(errors)) if errors else None,
        "exact": exact.value,
        "exact_ci": exact.ci,
        "bucket": inside.value,
        "bucket_ci": inside.ci,
    }
