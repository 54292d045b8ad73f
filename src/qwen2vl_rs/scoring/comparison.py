"""Compare two runs on the same questions: paired differences, intervals, McNemar test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from ..errors import DataError
from ..questions.class_sets import resolve_dataset
from ..questions.protocols import PROTOCOLS, judge, protocol
from ..types import Prediction
from .metrics import cluster_codes, group_codes
from .statistics import Codes, Estimate, Floats, estimate, mcnemar, overall

_EXAMPLES = 5

Key = tuple[str, ...]
Keyed = dict[Key, Prediction]


class Change(TypedDict):
    """An accuracy before and after; ``difference`` has a paired clustered 95 % interval."""

    n: int
    before: float
    after: float
    difference: float
    se: float | None
    ci: list[float]


class Paired(Change):
    """A `Change` with discordant pairs.

    ``wins``: questions with a higher score after; ``losses``: with a lower score; ``p``: exact
    McNemar test on them, which assumes independent questions (see `statistics.mcnemar`).
    """

    wins: int
    losses: int
    p: float


class ProtocolComparison(TypedDict):
    """Comparison under one protocol."""

    n: int
    OA: Paired
    AA: Change
    types: dict[str, Paired]


class Unmatched(TypedDict):
    """Questions in only one run: their numbers, and a few examples."""

    before: int
    after: int
    examples: list[str]


class Comparison(TypedDict):
    """``compare.json``; accuracies are fractions. ``n`` questions are in both runs."""

    n: int
    dataset: str
    matched_by: str
    clustered_by: str
    clusters: int
    unmatched: Unmatched
    protocols: dict[str, ProtocolComparison]


def compare_runs(
    before: Sequence[Prediction],
    after: Sequence[Prediction],
    *,
    protocols: Sequence[str] = tuple(PROTOCOLS),
    dataset: str | None = None,
) -> Comparison:
    """Compare two runs question by question.

    Questions are matched by id if all lines of both runs have ids of the same questions, else by
    image and question, else by image file name and question; the order does not matter. Protocols
    that score none of the questions are omitted.

    Args:
        before: predictions of one run.
        after: predictions of the other run.
        protocols: names, see `questions.protocols`.
        dataset: data set that defines the classes; None to take it from the predictions.

    Raises:
        DataError: no question is in both runs, questions are ambiguous, or an id has different
            questions in the two runs.
        ConfigError: a protocol is unknown.
    """
    chosen = [protocol(name) for name in protocols]
    matched_by, left, right, common = match_runs(before, after)
    pairs = [left[key] for key in common], [right[key] for key in common]
    clusters, clustered_by = cluster_codes(pairs[0])
    found: Comparison = {
        "n": len(common),
        "dataset": dataset or resolve_dataset((*pairs[0], *pairs[1])).name,
        "matched_by": matched_by,
        "clustered_by": clustered_by,
        "clusters": int(clusters.max()) + 1,
        "unmatched": {
            "before": len(left) - len(common),
            "after": len(right) - len(common),
            "examples": [_name(k) for k in sorted(left.keys() ^ right.keys())[:_EXAMPLES]],
        },
        "protocols": {},
    }
    for by in chosen:
        judged = [judge(run, by, found["dataset"]) for run in pairs]
        if judged[0].types:
            found["protocols"][by.name] = _compared(
                judged[0].scores, judged[1].scores, judged[0].types, clusters[judged[0].index]
            )
    return found


def match_runs(
    before: Sequence[Prediction], after: Sequence[Prediction]
) -> tuple[str, Keyed, Keyed, list[Key]]:
    """Match the questions of two runs.

    Returns:
        The key used, both runs by key, and the common keys: sorted, so that sums over them do not
        depend on the order of the lines.

    Raises:
        DataError: see `compare_runs`.
    """
    ways = ["id"] if all(p.id for p in (*before, *after)) else []
    why: DataError | None = None
    for by in (*ways, "image and question", "file name and question"):
        try:
            left, right = _keyed(before, by), _keyed(after, by)
            common = sorted(left.keys() & right.keys())
            _check(left, right, common)
        except DataError as error:
            why = why or error
        else:
            return by, left, right, common
    assert why
    raise why


def _name(key: Key) -> str:
    return ": ".join(part for part in key if part)


def _key(p: Prediction, by: str) -> Key:
    if by == "id":
        return (p.id,)
    image = p.image.replace("\\", "/")
    image = image.rpartition("/")[2] if by == "file name and question" else image
    return image, " ".join(p.question.split())


def _keyed(run: Sequence[Prediction], by: str) -> Keyed:
    keyed: Keyed = {}
    for p in run:
        key = _key(p, by)
        if key in keyed:
            raise DataError(
                f"two predictions have the same {by}: {_name(key)}",
                hint="give each line a unique id",
            )
        keyed[key] = p
    return keyed


def _check(left: Keyed, right: Keyed, common: Sequence[Key]) -> None:
    if not common:
        raise DataError(
            "the two runs have no question in common",
            hint="both files must answer the same questions, matched by id, or by image and "
            "question",
        )
    for key in common:
        a, b = left[key], right[key]
        if _plain(a.question) != _plain(b.question) or _plain(a.answer) != _plain(b.answer):
            raise DataError(
                f"the runs disagree on {_name(key)}: "
                f"{a.question!r} ({a.answer}) before, {b.question!r} ({b.answer}) after",
                hint="compare runs on the same questions",
            )


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _compared(
    before: Floats, after: Floats, types: Sequence[str], clusters: Codes
) -> ProtocolComparison:
    names, groups = group_codes(types)
    macro = [estimate(run, groups, clusters).value for run in (before, after)]
    by_type = {}
    for code, name in enumerate(names):
        mine = groups == code
        by_type[name] = _paired(before[mine], after[mine], clusters[mine])
    return {
        "n": len(before),
        "OA": _paired(before, after, clusters),
        "AA": _change(
            len(before), macro[0], macro[1], estimate(after - before, groups, clusters, low=-1.0)
        ),
        "types": by_type,
    }


def _change(n: int, before: float, after: float, difference: Estimate) -> Change:
    return {
        "n": n,
        "before": before,
        "after": after,
        "difference": difference.value,
        "se": difference.se,
        "ci": difference.ci,
    }


def _paired(before: Floats, after: Floats, clusters: Codes) -> Paired:
    difference = after - before
    wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
    change = _change(
        len(before),
        float(before.mean()),
        float(after.mean()),
        overall(difference, clusters, low=-1.0),
    )
    return {**change, "wins": wins, "losses": losses, "p": mcnemar(wins, losses)}
