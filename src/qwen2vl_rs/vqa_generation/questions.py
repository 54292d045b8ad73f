"""Questions about an image, asked as RSVQA asks them, with their true answers.

After the facts of Lobry et al., "RSVQA: Visual Question Answering for Remote Sensing Data" (TGRS
2020), and what is measured on the published data. Passes over the types of questions follow one
another; in each, every type is asked with a probability of its own; what has been asked is not
asked again, in other words neither. So the common types run out, and comparisons become many.

Three manners: ``legacy`` has the habits of the published data. The corrected one (default) mends
them: metres instead of Web Mercator's units, square is not circular, roads have no size, areas do
not count twice, ``next to`` means near, questions are asked also about what is not there. And
balanced, see `balance`, has no answer that the question alone gives away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.random import Generator

from ..questions.elements import Element, Layer
from .phrases import COMPARATORS, Wording, fill_template
from .referring import RELATIONS, SHAPES, SIZES, ImageElements, Phrase, Rules

#: Probability that a pass asks a question of the type, in the order of a pass.
RATES = {"presence": 0.5, "count": 0.5, "comp": 0.1, "area": 0.2}
RELATION_SHARE = 0.02
ATTRIBUTE_SHARE = 0.1
#: Probability that a category is taken although the image has nothing of its layer.
ABSENT_SHARE = 0.1
MOST_TRIES = 10_000
#: The published generator gave up on relations after five seconds: about so many pairs.
_MOST_PAIRS = 2_000

_CATEGORIES: tuple[tuple[Layer, str], ...] = (
    ("building", "building"),
    ("building", "residential building"),
    ("building", "commercial building"),
    ("road", "road"),
    ("water", "water area"),
    ("land", ""),
)
#: Asked about in legacy where an image has no land use at all: the answer is then always no.
FALLBACK = (
    "residential",
    "grass",
    "commercial",
    "construction",
    "industrial",
    "allotment",
    "cemetery",
    "depot",
    "farmland",
    "farmyard",
    "forest",
    "garage",
    "greenfield",
    "landfill",
    "meadow",
    "military area",
    "orchard",
    "port",
    "railway",
    "recreation_ground",
    "religious",
    "salt_pond",
    "vineyard",
)

Manner = Literal["corrected", "legacy", "balanced"]


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its answer.

    Attributes:
        type: ``presence``, ``count``, ``comp``, ``area`` or ``rural_urban``.
        text: as it is put.
        answer: as RSVQA stores it: ``yes``, ``47``, ``624m2``, ``rural``.
        key: what it asks, whatever its wording: no two of an image are equal.
    """

    type: str
    text: str
    answer: str
    key: tuple[object, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """An image to be asked about.

    Attributes:
        elements: what is in it.
        width, height: in metres.
        resolution: metres per pixel.
        latitude: of its middle, in degrees (legacy areas depend on it).
    """

    elements: Sequence[Element]
    width: float
    height: float
    resolution: float
    latitude: float = 0.0


@dataclass(frozen=True, slots=True)
class QuestionGenerator:
    """Asks questions.

    Attributes:
        manner: ``corrected``, ``legacy`` or ``balanced``.
        hr: ask as RSVQA-HR does: areas, and not whether a place is rural or urban.
        vocabulary: land uses that may be asked about where they are not; legacy needs none.
    """

    manner: Manner = "corrected"
    hr: bool = False
    vocabulary: tuple[str, ...] = ()

    @property
    def legacy(self) -> bool:
        """Whether the habits of the published data are kept."""
        return self.manner == "legacy"

    def questions(self, rng: Generator, view: AnnotatedImage, number: int = 100) -> list[Question]:
        """Questions about one image.

        Args:
            rng: source of all that is random.
            view: the image.
            number: how many; fewer where there is not enough to ask.
        """
        stretch = 1 / np.cos(np.radians(view.latitude))
        rules = Rules(self.legacy, view.resolution, float(stretch), self.hr)
        talk = _Talk(self, rng, ImageElements(view.elements, view.width, view.height, rules))
        asked: dict[tuple[object, ...], Question] = {}
        if not self.hr and (first := talk.rural_urban()):
            asked[first.key] = first
        types = [t for t in RATES if t != "area" or self.hr]
        tries = 0
        while len(asked) < number and tries < MOST_TRIES:
            for type_ in types:
                if rng.random() < RATES[type_]:
                    tries += 1
                    question = talk.ask(type_)
                    if question and question.key not in asked and len(asked) < number:
                        asked[question.key] = question
        return list(asked.values())


class _Talk:
    """One image being asked about."""

    def __init__(self, asker: QuestionGenerator, rng: Generator, things: ImageElements) -> None:
        self.asker, self.rng, self.things = asker, rng, things
        self.legacy, self.hr = asker.legacy, asker.hr
        self.wording = Wording(self.legacy, bare=self.legacy and not asker.hr)
        self._land = things.land()
        self._has = {layer: things.has(layer) for layer, _ in _CATEGORIES}

    def rural_urban(self) -> Question | None:
        """The first question of an image; None where the answer is not clear."""
        urban = self.things.urban()
        if urban is None:
            return None
        answer = "urban" if urban else "rural"
        return Question("rural_urban", self.wording.rural_urban(), answer, ("rural_urban",))

    def ask(self, type_: str) -> Question | None:
        """A question of a type, or None where none came to mind."""
        if type_ == "comp":
            return self._compare()
        phrase = self._phrase("road" if type_ == "area" else None)
        if phrase is None:
            return None
        mask = self.things.select(phrase)
        unique = self._unique(phrase)
        if type_ == "presence":
            text = fill_template(self.rng, type_, a=self.wording.thing(phrase, unique))
            return Question(type_, text, _yes(bool(mask.any())), (type_, phrase))
        text = fill_template(self.rng, type_, things=self.wording.things(phrase, unique))
        answer = str(int(mask.sum()))
        if type_ == "area":
            answer = f"{int(self.things.area(mask))}m2"
        return Question(type_, text, answer, (type_, phrase))

    def _compare(self) -> Question | None:
        first = self._phrase(None)
        if first is None:
            return None
        # after a relation the published generator had lost which layer came first; so did the
        # one of LR now and then without
        lost = self.legacy and (bool(first.relation) or (not self.hr and self.rng.random() < 0.04))
        second = self._phrase(None if lost else first.layer)
        if second is None or second == first:
            return None
        comparator = COMPARATORS[int(self.rng.integers(3))]
        a, b = (int(self.things.select(p).sum()) for p in (first, second))
        answer = {"less": a < b, "more": a > b, "equal": a == b}[comparator]
        words = [self.wording.things(p, self._unique(p)) for p in (first, second)]
        text = fill_template(self.rng, comparator, things=words[0], others=words[1])
        return Question("comp", text, _yes(answer), ("comp", comparator, first, second))

    def _unique(self, phrase: Phrase) -> bool:
        return phrase.other is not None and int(self.things.select(phrase.other).sum()) == 1

    def _phrase(self, excluded: Layer | None) -> Phrase | None:
        """A thing with perhaps an attribute or a relation, not of an excluded layer."""
        if self.rng.random() < RELATION_SHARE:
            first = self._plain(excluded)
            second = self._plain(first.layer) if first else None
            if first and second and self._can_relate(first, second):
                relation = RELATIONS[int(self.rng.integers(len(RELATIONS)))]
                return Phrase(first.layer, first.label, first.attribute, relation, second)
        return self._plain(excluded)

    def _can_relate(self, first: Phrase, second: Phrase) -> bool:
        there, here = self.things.select(second).sum(), self.things.select(first).sum()
        if not self.legacy:
            return bool(there)
        return bool(here * there <= _MOST_PAIRS)

    def _plain(self, excluded: Layer | None) -> Phrase | None:
        rng = self.rng
        attribute = ""
        if rng.random() < ATTRIBUTE_SHARE:
            values = SIZES if rng.random() < 0.5 else SHAPES
            attribute = values[int(rng.integers(3))]
        for k in rng.permutation(len(_CATEGORIES)).tolist():
            layer, label = _CATEGORIES[k]
            if layer == excluded:
                continue
            absent = ABSENT_SHARE if self.legacy else 0.5
            if not self._has[layer] and rng.random() >= absent:
                continue
            if layer == "land":
                label = self._land_use()
            # in RSVQA-LR roads have sizes and shapes, in spite of all
            if layer == "road" and (self.hr or not self.legacy):
                attribute = ""
            return Phrase(layer, label, attribute)
        return None

    def _land_use(self) -> str:
        """A land use of the image, the more frequent the likelier; or one that it has not."""
        if self.legacy:
            choices: Sequence[str] = self._land.tolist() or FALLBACK
        elif len(self._land) and (not self.asker.vocabulary or self.rng.random() < 0.5):
            choices = sorted(set(self._land.tolist()))
        else:
            choices = self.asker.vocabulary or FALLBACK
        return str(choices[int(self.rng.integers(len(choices)))])


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"
