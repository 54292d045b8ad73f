"""Baselines without the image: majority, question-only, and the model with shuffled images.

The majority baseline (``constant``: one answer per question type) and the question-only baseline (a
look-up table from question to answer) are fitted on training questions; the third baseline shows
the model another image (see `shuffle_images`). A model that does not beat them has learned the
questions, not the images: on RSVQA-LR the question-only baseline reaches an OA of 77 % (cf.
Chappuis et al., "The curse of language biases in remote sensing VQA", 2023).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..datasets.base import Dataset
from ..errors import DataError
from ..questions.grammar import KIND, backoff_keys
from ..questions.protocols import Protocol
from ..types import Sample

Keys = Callable[[str, str], Sequence[Hashable]]


@dataclass(frozen=True, slots=True)
class TrainingCounts:
    """Counts of the training questions.

    Attributes:
        counted: number of each (question, type, stored answer).
        dropped: number of questions that were dropped because their image is in the test set.
    """

    counted: Mapping[tuple[str, ...], int]
    dropped: int

    @property
    def n(self) -> int:
        """Number of questions used."""
        return sum(self.counted.values())


@dataclass(frozen=True, slots=True)
class LookupClassifier:
    """Look-up table with the most frequent class per key; tries the most specific key first.

    Attributes:
        keys: (question, type) → look-up keys, from the most to the least specific.
        majority: key → class.
    """

    keys: Keys
    majority: Mapping[Hashable, str]

    def knows(self, type: str) -> bool:
        """Whether the training questions contain an answer of this type."""
        return any(known in self.majority for known in ((type, "all"), type))

    def answer(self, question: str, type: str) -> str | None:
        """Return the predicted class of a question; None if its type is unknown."""
        known = (self.majority.get(key) for key in self.keys(question, type))
        return next((found for found in known if found), None)


class _Images:
    """Images by whole or partial path."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.whole = set(map(_parts, set(paths)))
        self.ends = {parts[i:] for parts in self.whole for i in range(len(parts))}
        self.known: dict[str, bool] = {}

    def __contains__(self, path: str) -> bool:
        if path not in self.known:
            parts = _parts(path)
            ends = (parts[i:] for i in range(len(parts)))
            self.known[path] = parts in self.ends or any(end in self.whole for end in ends)
        return self.known[path]


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part or "/" for part in path.replace("\\", "/").removeprefix("./").split("/"))


def count_training(train: Iterable[Sample], images: Iterable[str]) -> TrainingCounts:
    """Count the training questions, without those about test images.

    Two paths are the same image if one is the end of the other: prediction files often contain only
    the file name of an image (``12.tif``), or its folder and name.

    Args:
        train: the training questions.
        images: paths of the test images; empty where unknown.
    """
    tested = _Images(filter(None, images))
    data = Dataset.of(train)
    kept = data.without("image", lambda image: bool(image) and image in tested)
    return TrainingCounts(kept.counts("question", KIND, "answer"), len(data) - len(kept))


def majority_baseline(train: TrainingCounts, by: Protocol, dataset: str) -> LookupClassifier:
    """Fit the most frequent class of each question type, in the classes of a protocol."""
    return _fit(train, by, dataset, lambda question, type: [type])


def question_only_baseline(train: TrainingCounts, by: Protocol, dataset: str) -> LookupClassifier:
    """Fit the most frequent class of each question, in the classes of a protocol.

    Unknown questions and ties back off to less specific keys, finally to the question type: see
    `grammar.backoff_keys`.
    """
    return _fit(train, by, dataset, backoff_keys)


@dataclass(frozen=True, slots=True)
class Baseline:
    """A baseline that is scored beside a model.

    Attributes:
        name: key in ``results.json``.
        label: label in tables of the terminal.
        metric: name of its accuracy on a model card.
        text: description on a dataset card; empty if it needs a model.
        fit: creates its look-up table from training questions; None if it needs a model.
    """

    name: str
    label: str
    metric: str
    text: str = ""
    fit: Callable[[TrainingCounts, Protocol, str], LookupClassifier] | None = None


BASELINES = (
    Baseline(
        "constant",
        "constant",
        "OA of the constant-answer control",
        "the most frequent class of each type",
        majority_baseline,
    ),
    Baseline(
        "question_only",
        "question only",
        "OA of the question-only control",
        "a table from the wording of a question to its most frequent class",
        question_only_baseline,
    ),
    Baseline("shuffled_image", "shuffled image", "OA when shown a wrong image"),
)
"""All baselines in display order; ``i18n.toml`` contains their texts for the report."""


def _fit(train: TrainingCounts, by: Protocol, dataset: str, keys: Keys) -> LookupClassifier:
    classes: dict[Hashable, Counter[str]] = {}
    for (question, type, answer), n in train.counted.items():
        label = by.to_class(answer, type, dataset, question) if by.counts(type) else None
        if label is not None:
            for key in keys(question, type):
                classes.setdefault(key, Counter())[label] += n
    majority = {key: _most_frequent(found) for key, found in classes.items()}
    # The last key, the type, has no fallback: ties are broken alphabetically.
    last = {keys(question, type)[-1] for question, type, _ in train.counted}
    for key in last & classes.keys():
        majority[key] = min(classes[key], key=lambda label: (-classes[key][label], label))
    return LookupClassifier(keys, {key: label for key, label in majority.items() if label})


def _most_frequent(found: Counter[str]) -> str | None:
    (label, n), *others = found.most_common(2)
    return None if others and others[0][1] == n else label


def shuffle_images(images: Sequence[str], seed: int) -> dict[str, str]:
    """Assign another image to each image, for the shuffled-image baseline.

    Args:
        images: image paths; duplicates and order do not matter.
        seed: random seed.

    Returns:
        Image → image to show instead: every image replaces exactly one other image, never itself
        (a single random cycle, by Sattolo's algorithm).

    Raises:
        DataError: there are fewer than two images.
    """
    distinct = sorted(set(images))
    if len(distinct) < 2:
        raise DataError(
            f"the shuffled-image baseline needs two images, there is {len(distinct)}",
            hint="score questions about more images",
        )
    shown, generator = list(distinct), random.Random(seed)
    for i in range(len(shown) - 1, 0, -1):
        j = generator.randrange(i)
        shown[i], shown[j] = shown[j], shown[i]
    return dict(zip(distinct, shown, strict=True))
