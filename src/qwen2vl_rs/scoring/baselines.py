"""Controls: what an answer machine scores that never looked at the image.

A constant answer per question type, and a table from question to answer, are fitted on training
questions; the third control asks the model itself about another image (`shuffle_images` says
which one). A model that does not beat them has learned the questions, not the images: on
RSVQA-LR the table alone reaches an OA of 77 % (cf. Chappuis et al., "The curse of language biases
in remote sensing VQA", 2023).
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
from ..types import Prediction, Sample

Keys = Callable[[str, str], Sequence[Hashable]]


@dataclass(frozen=True, slots=True)
class Questions:
    """Training questions, counted.

    Attributes:
        counted: how often each (question, type, answer as stored) occurs.
        dropped: questions left out because their image is among those to be scored.
    """

    counted: Mapping[tuple[str, ...], int]
    dropped: int

    @property
    def n(self) -> int:
        """Number of questions used."""
        return sum(self.counted.values())


@dataclass(frozen=True, slots=True)
class LookupClassifier:
    """Most frequent class per key; asked with the most specific key first.

    Attributes:
        keys: (question, type) → its keys, from the most to the least specific.
        majority: key → class.
    """

    keys: Keys
    majority: Mapping[Hashable, str]

    def knows(self, type: str) -> bool:
        """Whether any answer to a question of a type was seen."""
        return any(known in self.majority for known in ((type, "all"), type))

    def answer(self, question: str, type: str) -> str | None:
        """The class given to a question; None where its type was never seen."""
        known = (self.majority.get(key) for key in self.keys(question, type))
        return next((found for found in known if found), None)


class _Images:
    """Images by their paths, whole or in part."""

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


def gather(train: Iterable[Sample], scored: Sequence[Prediction]) -> Questions:
    """Count the training questions, without those about an image that is scored.

    A table that has seen the answers it is scored on would be a control of nothing. Two paths
    name one image where one is the end of the other: files of predictions often give the bare
    name of an image (``12.tif``), or its folder and name.
    """
    images = _Images(p.image for p in scored if p.image)
    data = Dataset.of(train)
    kept = data.without("image", lambda image: bool(image) and image in images)
    return Questions(kept.counts("question", KIND, "answer"), len(data) - len(kept))


def constant(train: Questions, by: Protocol, dataset: str) -> LookupClassifier:
    """The most frequent class of each question type, in the classes of a protocol."""
    return _fit(train, by, dataset, lambda question, type: [type])


def question_only(train: Questions, by: Protocol, dataset: str) -> LookupClassifier:
    """The most frequent class of each question, in the classes of a protocol.

    A question never seen, or with a tie, is looked up by ever less of its wording, in the end
    by its type: see `grammar.backoff_keys`.
    """
    return _fit(train, by, dataset, backoff_keys)


@dataclass(frozen=True, slots=True)
class Control:
    """What is scored beside a model, and how it is called.

    Attributes:
        name: in ``results.json``.
        label: in tables of the terminal.
        metric: its accuracy on a model card.
        text: what it is made of, on the card of a data set; empty where it needs a model.
        fit: makes its table from training questions; None where the model is asked itself.
    """

    name: str
    label: str
    metric: str
    text: str = ""
    fit: Callable[[Questions, Protocol, str], LookupClassifier] | None = None


CONTROLS = (
    Control(
        "constant",
        "constant",
        "OA of the constant-answer control",
        "the most frequent class of each type",
        constant,
    ),
    Control(
        "question_only",
        "question only",
        "OA of the question-only control",
        "a table from the wording of a question to its most frequent class",
        question_only,
    ),
    Control("shuffled_image", "shuffled image", "OA when shown a wrong image"),
)
"""In the order in which they are shown; the report has more texts for each in ``i18n.toml``."""


def _fit(train: Questions, by: Protocol, dataset: str, keys: Keys) -> LookupClassifier:
    classes: dict[Hashable, Counter[str]] = {}
    for (question, type, answer), n in train.counted.items():
        label = by.to_class(answer, type, dataset, question) if by.counts(type) else None
        if label is not None:
            for key in keys(question, type):
                classes.setdefault(key, Counter())[label] += n
    majority = {key: _most_frequent(found) for key, found in classes.items()}
    # At the last key, the type, there is nothing to fall back on: the alphabet breaks ties.
    last = {keys(question, type)[-1] for question, type, _ in train.counted}
    for key in last & classes.keys():
        majority[key] = min(classes[key], key=lambda label: (-classes[key][label], label))
    return LookupClassifier(keys, {key: label for key, label in majority.items() if label})


def _most_frequent(found: Counter[str]) -> str | None:
    (label, n), *others = found.most_common(2)
    return None if others and others[0][1] == n else label


def shuffle_images(images: Sequence[str], seed: int) -> dict[str, str]:
    """Another image for each image, so that a model can be asked about the wrong one.

    Args:
        images: image paths; repetitions and order do not matter.
        seed: of the random choice.

    Returns:
        Image → the one to show instead: every image is shown for exactly one other, never for
        itself (a single random cycle, by Sattolo's algorithm).

    Raises:
        DataError: there are fewer than two images.
    """
    distinct = sorted(set(images))
    if len(distinct) < 2:
        raise DataError(
            f"the shuffled-image control needs two images, there is {len(distinct)}",
            hint="score questions about more images",
        )
    shown, generator = list(distinct), random.Random(seed)
    for i in range(len(shown) - 1, 0, -1):
        j = generator.randrange(i)
        shown[i], shown[j] = shown[j], shown[i]
    return dict(zip(distinct, shown, strict=True))
