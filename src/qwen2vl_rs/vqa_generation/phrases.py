"""Wording of generated questions: templates, plurals, articles, relations, suffix."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.random import Generator

from ..questions.elements import noun
from .referring import Phrase

TEMPLATES = {
    "presence": ("Is there {a}", "Is {a} present"),
    "count": (
        "How many {things} are there",
        "What is the number of {things}",
        "What is the amount of {things}",
    ),
    "less": ("Are there less {things} than {others}",),
    "more": ("Are there more {things} than {others}",),
    "equal": ("Is the number of {things} equal to the number of {others}",),
    "area": ("What is the area covered by {things}",),
}
COMPARATORS = ("less", "more", "equal")
RURAL_URBAN = "Is it a rural or an urban area"
SUFFIX = " in the image"
SUFFIX_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Wording:
    """Spelling of phrases.

    Attributes:
        legacy: as published: always ``a``, plural with a plain ``s``, two spaces before the second
            object of a relation, no question mark after the rural/urban question.
        bare: as in RSVQA-LR: append ``area`` only to residential and grass.
    """

    legacy: bool
    bare: bool = False

    def things(self, phrase: Phrase, unique: bool) -> str:
        """Return a phrase in the plural; ``unique``: the second object exists only once."""
        words = self._attributed(phrase, self._plural(self._noun(phrase)))
        return words + self._relation(phrase, unique)

    def thing(self, phrase: Phrase, unique: bool) -> str:
        """Return a phrase in the singular, with its article."""
        words = self._with_article(self._attributed(phrase, self._noun(phrase)))
        return words + self._relation(phrase, unique)

    def _noun(self, phrase: Phrase) -> str:
        return noun(phrase.label, bare=self.bare) if phrase.layer == "land" else phrase.label

    def _plural(self, word: str) -> str:
        if self.legacy:
            return f"{word}s"
        if word.startswith(("place of", "village green")):
            return word.replace("place", "places").replace("green", "greens")
        if word.endswith("y") and word[-2] not in "aeiou":
            return f"{word[:-1]}ies"
        if word.endswith(("ch", "s")):
            return word if word in ("allotments", "barracks") else f"{word}es"
        return f"{word}s"

    def _attributed(self, phrase: Phrase, word: str) -> str:
        return f"{phrase.attribute} {word}" if phrase.attribute else word

    def _with_article(self, words: str) -> str:
        article = "an" if not self.legacy and words[0] in "aeiou" and words[:3] != "uni" else "a"
        return f"{article} {words}"

    def _relation(self, phrase: Phrase, unique: bool) -> str:
        if not phrase.other:
            return ""
        other = self._attributed(phrase.other, self._noun(phrase.other))
        if self.legacy:
            return f" {phrase.relation} {'the' if unique else 'a'}  {other}"
        return f" {phrase.relation} {f'the {other}' if unique else self._with_article(other)}"

    def rural_urban(self) -> str:
        """Return the rural/urban question."""
        return RURAL_URBAN if self.legacy else f"{RURAL_URBAN}?"


def fill_template(rng: Generator, kind: str, **words: str) -> str:
    """Fill a random template of a kind; one in ten gets the suffix."""
    choices = TEMPLATES[kind]
    text = choices[int(rng.integers(len(choices)))].format(**words)
    return text + (SUFFIX if rng.random() < SUFFIX_SHARE else "") + "?"
