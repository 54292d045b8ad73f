"""Generate RSVQA-style questions about an image, with exact answers.

Follows Lobry et al., "RSVQA: Visual Question Answering for Remote Sensing Data" (TGRS 2020), and
statistics of the published data. The generator makes passes over the question types; in each pass,
every type is asked with its own probability; no question is repeated, not even in another wording.
Therefore the common types run out, and comparisons become frequent.

There are three manners. ``legacy`` reproduces the flaws of the published data. ``corrected`` (the
default) fixes them: metres instead of Web Mercator units, square is not circular, roads have no
size, overlapping areas count once, ``next to`` means near, and questions also ask about absent
objects. ``balanced`` also balances the answers, see `balance`.
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

#: Probability of each type in a pass, in order.
RATES = {"presence": 0.5, "count": 0.5, "comp": 0.1, "area": 0.2}
RELATION_SHARE = 0.02
ATTRIBUTE_SHARE = 0.1
#: Probability of asking about a category without objects in the image.
ABSENT_SHARE = 0.1
MOST_TRIES = 10_000
#: Approximate limit of the published generator, which gave up on relations after five seconds.
_MOST_PAIRS = 2_000

_CATEGORIES: tuple[tuple[Layer, str], ...] = (
    ("building", "building"),
    ("building", "residential building"),
    ("building", "commercial building"),
    ("road", "road"),
    ("water", "water area"),
    ("land", ""),
)
#: Land uses for legacy questions about images without land use; the answer is then always no.
FALLBACK = (
    *("residential", "grass", "commercial", "construction", "industrial", "allotment", "cemetery"),
    *("depot", "farmland", "farmyard", "forest", "garage", "greenfield", "landfill", "meadow"),
    *("military area", "orchard", "port", "railway", "recreation_ground", "religious", "salt_pond"),
    "vineyard",
)

Manner = Literal["corrected", "legacy", "balanced"]


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its answer.

    Attributes:
        type: ``presence``, ``count``, ``comp``, ``area`` or ``rural_urban``.
        text: the question.
        answer: the answer in RSVQA's format: ``yes``, ``47``, ``624m2``, ``rural``.
        key: meaning of the question, independent of its wording; unique per image.
    """

    type: str
    text: str
    answer: str
    key: tuple[object, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """An image with its elements.

    Attributes:
        elements: elements in the image.
        width, height: size in metres.
        resolution: metres per pixel.
        latitude: latitude of the centre, in degrees (affects legacy areas).
    """

    elements: Sequence[Element]
    width: float
    height: float
    resolution: float
    latitude: float = 0.0


@dataclass(frozen=True, slots=True)
class QuestionGenerator:
    """Generator of questions.

    Attributes:
        manner: ``corrected``, ``legacy`` or ``balanced``.
        hr: use the types of RSVQA-HR: areas instead of rural/urban.
        vocabulary: land uses for questions about absent objects; unused by legacy.
    """

    manner: Manner = "corrected"
    hr: bool = False
    vocabulary: tuple[str, ...] = ()

    @property
    def legacy(self) -> bool:
        """Whether the flaws of the published data are reproduced."""
        return self.manner == "legacy"

    def questions(self, rng: Generator, view: AnnotatedImage, number: int = 100) -> list[Question]:
        """Generate questions about one image.

        Args:
            rng: random generator.
            view: the image.
            number: number of questions; there may be fewer for simple images.
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
    """State of the generation for one image."""

    def __init__(self, asker: QuestionGenerator, rng: Generator, things: ImageElements) -> None:
        self.asker, self.rng, self.things = asker, rng, things
        self.legacy, self.hr = asker.legacy, asker.hr
        self.wording = Wording(self.legacy, bare=self.legacy and not asker.hr)
        self._land = things.land()
        self._has = {layer: things.has(layer) for layer, _ in _CATEGORIES}

    def rural_urban(self) -> Question | None:
        """Return the rural/urban question; None if the answer is unclear."""
        urban = self.things.urban()
        if urban is None:
            return None
        answer = "urban" if urban else "rural"
        return Question("rural_urban", self.wording.rural_urban(), answer, ("rural_urban",))

    def ask(self, type_: str) -> Question | None:
        """Return a random question of a type, or None if the attempt fails."""
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
        # the published generator forgot the layer of the first object after a relation; that of LR
        # sometimes also without one
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
        """Return a random object, perhaps with attribute or relation, not of an excluded layer."""
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
            # roads have sizes and shapes only in RSVQA-LR
            if layer == "road" and (self.hr or not self.legacy):
                attribute = ""
            return Phrase(layer, label, attribute)
        return None

    def _land_use(self) -> str:
        """Return a land use of the image, weighted by frequency; or an absent one."""
        if self.legacy:
            choices: Sequence[str] = self._land.tolist() or FALLBACK
        elif len(self._land) and (not self.asker.vocabulary or self.rng.random() < 0.5):
            choices = sorted(set(self._land.tolist()))
        else:
            choices = self.asker.vocabulary or FALLBACK
        return str(choices[int(self.rng.integers(len(choices)))])


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"
