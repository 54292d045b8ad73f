"""Evaluation protocols: which question types are scored, and when a prediction is correct.

============  =====================================================================================
``official``  Lobry et al. 2020 (RSVQA-LR, -HR) and every paper that prints count accuracy: all
              types; LR counts and HR areas in the official buckets, HR counts exact. xBEN: whole
              answer strings (IGARSS 2021). VRSBench: its rule without a judge (`open_answer`).
              Unknown data set: counts and areas are exact.
``geochat``   GeoChat, TEOChat, EarthDial, GeoVLM-R1 (question-weighted average: our OA); RSGPT,
              SkyEyeGPT, LHRS-Bot (mean over types: our AA): no counts, no areas. GeoChat prints
              one column of both kinds, see ``docs/scoring.md``.
``raw``       Repositories without buckets: exact match of the stored strings, ignoring case and
              spacing. Counting is much harder.
``original``  The first specification of this project: the number, or yes/no, or the text, parsed
              strictly: a number must be the only one, ``no`` is never ``urban``.
============  =====================================================================================
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..types import Prediction
from .clean import clean
from .grammar import type_of
from .normal_forms import normalise
from .numbers import scan
from .registry import type_named
from .reply import extract_answer


class ToClass(typing.Protocol):
    """Function that maps an answer to its class, given question type and data set."""

    def __call__(self, answer: str, type: str, dataset: str, question: str = "") -> str | None:
        """Return the class; None if there is no clear answer. Options are in the question."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """An evaluation protocol.

    Attributes:
        name: name printed beside every number.
        counts: whether a question type is scored.
        uses_text: whether the model's verbatim answer (``text``) is scored, if the file has it,
            instead of its normal form.
        to_class: (answer, question type, data set, question) → class. The question type scores a
            prediction by its class and that of the ground truth.
        exact: whether the classes must be equal, whatever the question type accepts.
    """

    name: str
    counts: Callable[[str], bool]
    uses_text: bool
    to_class: ToClass
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """Predictions scored under one protocol, one entry per scored question.

    Attributes:
        index: position of each question in the predictions given.
        types: question types.
        gold: class of the ground truth; None if it cannot be read, which is never correct.
        predicted: class of the prediction; None if it is not a clear answer.
        scores: (n,) score of each prediction, from 0 to 1.
        f1: (n,) see `f1_of`.
    """

    index: NDArray[np.intp]
    types: list[str]
    gold: list[str | None]
    predicted: list[str | None]
    scores: NDArray[np.float64]
    f1: NDArray[np.float64]


def protocol(name: str) -> Protocol:
    """Return the protocol with a name.

    Raises:
        ConfigError: there is no such protocol.
    """
    if name not in PROTOCOLS:
        near = difflib.get_close_matches(name, PROTOCOLS, n=1, cutoff=0.4)
        raise ConfigError(
            f"unknown protocol {name!r}" + (f"; did you mean {near[0]}?" if near else ""),
            hint=f"choose from {', '.join(PROTOCOLS)}",
        )
    return PROTOCOLS[name]


def judge(predictions: Sequence[Prediction], by: Protocol, dataset: str) -> Judged:
    """Score each prediction against its ground truth.

    Reasoning and the markup around an answer are removed under every protocol.

    Args:
        predictions: answered questions.
        by: the protocol.
        dataset: data set that defines the classes: ``LR``, ``HR``, …, or ``unknown``.
    """
    types = [type_of(p) for p in predictions]
    kept = [i for i, type in enumerate(types) if by.counts(type)]
    types = [types[i] for i in kept]
    rows = [(t, predictions[i]) for t, i in zip(types, kept, strict=True)]
    gold = [by.to_class(p.answer, t, dataset, p.question) for t, p in rows]
    predicted = [by.to_class(_said(p, by), t, dataset, p.question) for t, p in rows]
    scores = scores_of(types, gold, predicted, by)
    f1 = f1_of(types, gold, predicted)
    return Judged(np.array(kept, dtype=np.intp), types, gold, predicted, scores, f1)


def _said(prediction: Prediction, by: Protocol) -> str:
    return extract_answer((prediction.text if by.uses_text else "") or prediction.prediction).text


def scores_of(
    types: Sequence[str],
    gold: Sequence[str | None],
    predicted: Sequence[str | None],
    by: Protocol | None = None,
) -> NDArray[np.float64]:
    """Return (n,) the score of each prediction, by its question type unless ``by`` is exact."""
    rows = zip(types, gold, predicted, strict=True)
    if by and by.exact:
        return np.array([g is not None and g == p for _, g, p in rows], dtype=np.float64)
    return np.array([type_named(t).score(g, p) for t, g, p in rows], dtype=np.float64)


def f1_of(
    types: Sequence[str], gold: Sequence[str | None], predicted: Sequence[str | None]
) -> NDArray[np.float64]:
    """Return (n,) the order-free F1 of each list answer; NaN for types without lists."""
    found = np.full(len(types), np.nan)
    lists = {
        name: type_named(name) for name in set(types) if type_named(name).parts("") is not None
    }
    for i, (kind, *answers) in enumerate(zip(types, gold, predicted, strict=True)):
        if kind in lists:
            true, said = (lists[kind].parts(text or "") or frozenset() for text in answers)
            found[i] = 2 * len(true & said) / (len(true) + len(said)) if true else 0.0
    return found


def class_order(label: str) -> tuple[int, float, str]:
    """Sort key of classes: words alphabetically, then numbers and buckets by size."""
    found = scan(label)
    if found is None or not found.values:
        return (0, 0.0, label)
    return (1, found.values[-1] + (0.5 if "than" in found.words else 0.0), label)


def _official(answer: str, type: str, dataset: str, question: str = "") -> str | None:
    normal = normalise(answer, type, question)
    return None if normal is None else type_named(type).official_class(normal, dataset)


def _every(type: str) -> bool:
    return True


def _of_geochat(type: str) -> bool:
    return type_named(type).counted_by_geochat


def _raw(answer: str, type: str, dataset: str, question: str = "") -> str | None:
    return " ".join(answer.lower().split()) or None


def _original(answer: str, type: str, dataset: str, question: str = "") -> str | None:
    text = clean(answer)
    found = scan(text)
    if found and found.values:
        number = normalise(answer, "area" if "sqm" in found.words and type == "area" else "count")
        if number and number.removesuffix("m2").isdecimal():
            return number.removesuffix("m2")
    return normalise(answer, "presence") or text or None


PROTOCOLS = {
    p.name: p
    for p in (
        Protocol("official", _every, False, _official),
        Protocol("geochat", _of_geochat, False, _official),
        Protocol("raw", _every, True, _raw, exact=True),
        Protocol("original", _every, True, _original, exact=True),
    )
}
