"""Questions and answers about a scene for pre-training, in full sentences.

RSVQA's templates and answer formats do not occur here (no buckets, no answers of one word), so that
only fine-tuning can teach them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import shapely
from numpy.random import Generator

from qwen2vl_rs.questions.elements import Element, Layer
from qwen2vl_rs.synthetic.scene import CLASSES
from qwen2vl_rs.vqa_generation.phrases import Wording
from qwen2vl_rs.vqa_generation.questions import AnnotatedImage, QuestionGenerator
from qwen2vl_rs.vqa_generation.referring import (
    RELATIONS,
    SHAPES,
    SIZES,
    ImageElements,
    Phrase,
    Rules,
)

LAND = CLASSES[5:]
INSTRUCTIONS = ("", "Answer in a sentence.", "Look at the picture.", "Say what you see.")
_PLAIN: tuple[tuple[Layer, str], ...] = (
    ("building", "building"), ("building", "residential building"),
    ("building", "commercial building"), ("road", "road"), ("water", "water area"),
    ("land", ""), ("land", ""),
)  # fmt: skip
_TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen",
          "eighteen", "nineteen")  # fmt: skip
_UNITS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", *_TEENS)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
#: Presence questions, with both answers.
_SEEN = (
    ("Can {a} be seen?", "Yes, it can.", "No, it cannot."),
    ("Does the picture show {a}?", "Yes, it does.", "No, it does not."),
    ("Do you see any {many}?", "Yes, I do.", "No, I see none."),
    ("Tell me whether {a} can be found here.", "Yes, there it is.", "No {one} can be found."),
)
_COUNT = ("Count the {many}.", "Please count all {many}.", "Look for {many} and count them.")
_FIGURE = ("Give a figure for {many}.", "Write down how many {many} you see.")
_MORE = ("Do {many} outnumber {others}?", "Do you see more {many} here than {others}?")
_LESS = ("Are {many} fewer than {others}?", "Do you see less {many} here than {others}?")
_EQUAL = ("Are {many} and {others} equal in number?", "As many {many} as {others}?")
_PLACE = ("What kind of place is this?", "Does this look like a town or like the country?")
_HALVES = ("top", "bottom", "left", "right")


class Pair(NamedTuple):
    """A question with its answer; ``kind`` is the method of `Talk` that made it."""

    kind: str
    question: str
    answer: str


def in_words(n: int) -> str:
    """Return a number up to 99 in words, a larger one in digits."""
    if n < 20:
        return _UNITS[n]
    if n > 99:
        return str(n)
    return _TENS[n // 10 - 2] + (f"-{_UNITS[n % 10]}" if n % 10 else "")


class Talk:
    """Makes questions and answers about one scene.

    Args:
        rng: random number generator.
        elements: the elements of the scene.
        side: side of the square image, in metres.
        pixels: side of the image, in pixels.
    """

    def __init__(
        self, rng: Generator, elements: tuple[Element, ...], side: float, pixels: int = 256
    ) -> None:
        self.rng, self.side = rng, side
        self.things = ImageElements(elements, side, side, Rules(False, side / pixels))
        self.wording = Wording(False)
        self.here = sorted(set(self.things.land().tolist()))

    def pairs(self, number: int) -> Iterator[Pair]:
        """Yield a number of different questions with answers, or fewer if there are no more."""
        kinds: tuple[tuple[Callable[[], tuple[str, str] | None], float], ...] = (
            (self.seen, 0.27), (self.counted, 0.3), (self.compared, 0.3), (self.halved, 0.05),
            (self.placed, 0.03), (self.told, 0.02), (self.found, 0.03),
        )  # fmt: skip
        asked: set[str] = set()
        for _ in range(3 * number):
            make = kinds[int(self.rng.choice(len(kinds), p=[p for _, p in kinds]))][0]
            pair = make()
            if pair and pair[0] not in asked:
                asked.add(pair[0])
                yield Pair(make.__name__, *pair)
            if len(asked) == number:
                return

    def number(self, phrase: Phrase) -> int:
        """Return the number of elements that a phrase refers to."""
        return int(self.things.select(phrase).sum())

    def seen(self) -> tuple[str, str]:
        """Make a presence question."""
        phrase = self._phrase_with(self.rng.random() < 0.5)
        a, many = self.wording.thing(phrase, False), self.wording.things(phrase, False)
        question, yes, no = _SEEN[int(self.rng.integers(len(_SEEN)))]
        text = yes if self.number(phrase) else no
        return question.format(a=a, many=many), text.format(one=a.split(" ", 1)[1])

    def counted(self) -> tuple[str, str]:
        """Make a counting question, answered in words or in digits."""
        phrase = self._phrase_with(self.rng.random() < 0.75)
        n, many = self.number(phrase), self.wording.things(phrase, unique=False)
        if self.rng.random() < 0.4:
            return self._pick(_FIGURE).format(many=many), f"I count {n}."
        one = self.wording.thing(phrase, unique=False).split(" ", 1)[1]
        text = f"There is one {one}." if n == 1 else f"There are {in_words(n)} {many}."
        return self._pick(_COUNT).format(many=many), text

    def compared(self) -> tuple[str, str]:
        """Make a comparison of two counts."""
        way, wanted = int(self.rng.integers(4)), bool(self.rng.random() < 0.5)
        for _ in range(5):
            first = self._phrase_with(self.rng.random() < 0.65)
            second = self._phrase_with(self.rng.random() < 0.65)
            a, b = self.number(first), self.number(second)
            true = (a > b, a < b, a == b, a != b)[way]
            if true == wanted:
                break
        many, others = (self.wording.things(p, unique=False) for p in (first, second))
        if way == 3:
            question = f"Of which do you see more, {many} or {others}?"
            if a == b:
                return question, "They are equal in number."
            return question, f"I see more {many if a > b else others}."
        question = self._pick((_MORE, _LESS, _EQUAL)[way]).format(many=many, others=others)
        return question, "Yes, that is so." if true else "No, that is not so."

    def halved(self) -> tuple[str, str]:
        """Make a question whether something is in one half of the picture."""
        phrase = self._phrase_with(True)
        half = self._pick(_HALVES)
        low, mid = -1.0, self.side / 2
        x0, y0, x1, y1 = {
            "top": (low, mid, 2 * self.side, 2 * self.side), "bottom": (low, low, 9e9, mid),
            "left": (low, low, mid, 9e9), "right": (mid, low, 9e9, 9e9),
        }[half]  # fmt: skip
        where = f"{'at' if half in ('top', 'bottom') else 'on'} the {half}"
        shapes = self.things.shapes[self.things.select(phrase)]
        yes = bool(len(shapes)) and bool(
            shapely.intersects(shapes, shapely.box(x0, y0, x1, y1)).any()
        )
        a = self.wording.thing(phrase, unique=False)
        question = f"Look {where}: do you see {a}?"
        return question, f"Yes, {where}." if yes else f"No, not {where}."

    def found(self) -> tuple[str, str] | None:
        """Make a question about the position of a unique element."""
        phrase = self._phrase_with(True)
        mask = self.things.select(phrase)
        if int(mask.sum()) != 1 or phrase.layer == "road":
            return None
        point = shapely.centroid(self.things.shapes[mask][0])
        row = ("bottom", "middle", "top")[min(int(3 * point.y / self.side), 2)]
        column = ("left", "middle", "right")[min(int(3 * point.x / self.side), 2)]
        one = self.wording.thing(phrase, unique=False).split(" ", 1)[1]
        where = row if row == column else f"{row} {column}"
        return f"Where is the {one}?", f"It lies at the {where}."

    def placed(self) -> tuple[str, str]:
        """Make a question about rural or urban."""
        urban = self.things.urban()
        kind = {True: "a town", False: "the countryside", None: "the edge of a town"}[urban]
        return self._pick(_PLACE), f"This is {kind}."

    def told(self) -> tuple[str, str]:
        """Make a request for a description."""
        found = [self.wording.things(Phrase("land", v), unique=False) for v in self.here]
        for layer, label in _PLAIN[1:5]:
            if n := self.number(Phrase(layer, label)):
                one = Phrase(layer, label)
                many = self.wording.things(one, unique=False)
                found.append(f"{in_words(n)} {many if n > 1 else label}")
        return "Describe the picture.", f"It shows {', '.join(found)}." if found else "Nothing."

    def _pick(self, choices: tuple[str, ...]) -> str:
        return choices[int(self.rng.integers(len(choices)))]

    def _phrase_with(self, present: bool) -> Phrase:
        """Return a phrase; if possible one that refers to something, or to nothing."""
        phrase = self._phrase()
        for _ in range(5):
            if (self.number(phrase) > 0) == present:
                break
            phrase = self._phrase()
        return phrase

    def _phrase(self) -> Phrase:
        rng = self.rng
        first = self._plain()
        if rng.random() < 0.06:
            second = self._plain()
            if second.layer != first.layer and self.number(second):
                relation = RELATIONS[int(rng.integers(len(RELATIONS)))]
                return Phrase(first.layer, first.label, first.attribute, relation, second)
        return first

    def _plain(self) -> Phrase:
        rng = self.rng
        layer, label = _PLAIN[int(rng.integers(len(_PLAIN)))]
        if layer == "land":
            known = self.here if self.here and rng.random() < 0.5 else LAND
            label = str(known[int(rng.integers(len(known)))])
        attribute = ""
        if layer != "road" and rng.random() < 0.3:
            values = SIZES if rng.random() < 0.5 else SHAPES
            attribute = values[int(rng.integers(3))]
        return Phrase(layer, label, attribute)


def corpus(elements: list[tuple[float, tuple[Element, ...]]]) -> Iterator[str]:
    """Yield the text for the vocabulary: these sentences, and RSVQA's questions.

    RSVQA's questions only affect the vocabulary; the model is not trained on them.
    """
    for n, (side, things) in enumerate(elements):
        rng = np.random.default_rng([7, n])
        for _, question, answer in Talk(rng, things, side).pairs(40):
            yield f"{question}\n{answer}"
        for manner, hr in itertools.product(("corrected", "legacy"), (False, True)):
            asker = QuestionGenerator(manner, hr, LAND)  # type: ignore[arg-type]
            view = AnnotatedImage(things, side, side, side / 256, 48.0)
            yield from (q.text for q in asker.questions(rng, view, 12))
    yield from ["between and more than", "yes", "no", "rural", "urban"] * 20
    yield from (in_words(n) for n in range(100) for _ in range(20))
    yield from INSTRUCTIONS
    yield "system user assistant You are a helpful assistant."
    yield "Answer the question using a single word or phrase."
