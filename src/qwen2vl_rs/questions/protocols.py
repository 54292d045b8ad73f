"""Protocols: which questions count, and when a prediction equals the true answer.

============  =====================================================================================
``official``  Lobry et al. 2020 (RSVQA-LR, -HR) and every paper that prints count accuracy: all
              types; LR counts and HR areas in the official buckets, HR counts exact. xBEN: whole
              answer strings (IGARSS 2021). Of an unknown data set, counts and areas are exact.
``geochat``   GeoChat, TEOChat, EarthDial, GeoVLM-R1 (question-weighted average: our OA); RSGPT,
              SkyEyeGPT, LHRS-Bot (mean over types: our AA): no counts, no areas. GeoChat prints
              one column of both kinds, see ``docs/scoring.md``.
``raw``       Repositories that never bucket: the strings as stored, exact but for case and
              spacing. Counting is much harder so.
``original``  What this project's first description asks for: the number, or yes/no, or the
              text; done strictly: a number must be the only one, ``no`` is never ``urban``.
============  =====================================================================================
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..known_datasets import bucketed
from ..types import Prediction
from .grammar import type_of
from .normal_forms import clean, normalise
from .numbers import bucket, scan
from .reply import spoken


@dataclass(frozen=True, slots=True)
class Protocol:
    """A way of scoring.

    Attributes:
        name: as printed beside every number.
        excluded: question types that do not count.
        said: whether the model's own words are judged (``text``) where the file has them,
            rather than their normal form.
        to_class: (answer, question type, data set) → its class, None for no clear answer. A
            prediction is right when its class is that of the true answer.
    """

    name: str
    excluded: frozenset[str]
    said: bool
    to_class: Callable[[str, str, str], str | None]


@dataclass(frozen=True, slots=True)
class Judged:
    """Predictions under one protocol, one entry per question that counts.

    Attributes:
        index: position of each question in the predictions given.
        types: question type.
        gold: class of the true answer; None where it cannot be read, which is never right.
        predicted: class of the prediction; None where it is no clear answer.
        right: whether they agree.
    """

    index: NDArray[np.intp]
    types: list[str]
    gold: list[str | None]
    predicted: list[str | None]
    right: NDArray[np.bool_]


def protocol(name: str) -> Protocol:
    """The protocol of a name.

    Raises:
        ConfigError: there is none.
    """
    if name not in PROTOCOLS:
        near = difflib.get_close_matches(name, PROTOCOLS, n=1, cutoff=0.4)
        raise ConfigError(
            f"unknown protocol {name!r}" + (f"; did you mean {near[0]}?" if near else ""),
            hint=f"choose from {', '.join(PROTOCOLS)}",
        )
    return PROTOCOLS[name]


def judge(predictions: Sequence[Prediction], by: Protocol, dataset: str) -> Judged:
    """Compare each prediction with its true answer.

    Thoughts and the marks around an answer are no part of it under any protocol.

    Args:
        predictions: answered questions.
        by: the protocol.
        dataset: whose classes apply: ``LR``, ``HR``, ``xBEN`` or ``unknown``.
    """
    types = [type_of(p) for p in predictions]
    kept = [i for i, type in enumerate(types) if type not in by.excluded]
    types = [types[i] for i in kept]
    answers = [predictions[i].answer for i in kept]
    said = [_said(predictions[i], by) for i in kept]
    gold = [by.to_class(text, t, dataset) for text, t in zip(answers, types, strict=True)]
    predicted = [by.to_class(text, t, dataset) for text, t in zip(said, types, strict=True)]
    return Judged(np.array(kept, dtype=np.intp), types, gold, predicted, agree(gold, predicted))


def _said(prediction: Prediction, by: Protocol) -> str:
    return spoken((prediction.text if by.said else "") or prediction.prediction).text


def agree(gold: Sequence[str | None], predicted: Sequence[str | None]) -> NDArray[np.bool_]:
    """Whether each prediction is right; None never is."""
    pairs = zip(gold, predicted, strict=True)
    return np.array([g is not None and g == p for g, p in pairs], dtype=np.bool_)


def class_order(label: str) -> tuple[int, float, str]:
    """Sort key of classes: words by the alphabet, then numbers and buckets by size."""
    found = scan(label)
    if found is None or not found.values:
        return (0, 0.0, label)
    return (1, found.values[-1] + (0.5 if "than" in found.words else 0.0), label)


def _official(answer: str, type: str, dataset: str) -> str | None:
    normal = normalise(answer, type)
    if normal is None:
        return None
    if type == "count" and type in bucketed(dataset) and normal.isdecimal():
        return bucket(int(normal))
    if type == "area" and type in bucketed(dataset) and normal.removesuffix("m2").isdecimal():
        return bucket(int(normal.removesuffix("m2")), "m2")
    return normal


def _raw(answer: str, type: str, dataset: str) -> str | None:
    return " ".join(answer.lower().split()) or None


def _original(answer: str, type: str, dataset: str) -> str | None:
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
        Protocol("official", frozenset(), False, _official),
        Protocol("geochat", frozenset({"count", "area"}), False, _official),
        Protocol("raw", frozenset(), True, _raw),
        Protocol("original", frozenset(), True, _original),
    )
}
