"""Parse numbers in answers: digits, words, thousands separators, m2, and the official buckets."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .wording import word_set

_BOUNDS = (10, 100, 1000)

_UNITS, _TEENS, _TENS = map(
    str.split,
    (
        "one two three four five six seven eight nine",
        "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen",
        "twenty thirty forty fifty sixty seventy eighty ninety",
    ),
)
_VALUES = (
    {word: i for i, word in enumerate(_UNITS, 1)}
    | {word: i for i, word in enumerate(_TEENS, 10)}
    | {word: 10 * i for i, word in enumerate(_TENS, 2)}
    | {"zero": 0, "a": 1}
)
_UNIT = f"(?:{'|'.join(_UNITS)})"
_BELOW_100 = f"(?:(?:{'|'.join(_TENS)})(?:[- ]{_UNIT})?|{'|'.join(_TEENS)}|{_UNIT})"
_BELOW_1000 = f"(?:(?:{_UNIT}|a) hundred(?: (?:and )?{_BELOW_100})?|{_BELOW_100})"
_WORDS = (
    rf"(?:zero|(?:a|{_BELOW_1000}) thousand(?:,? (?:and )?{_BELOW_1000})?|{_BELOW_1000})"
    r"(?![\w'-])"
)
# One kind of thousands separator per number; longer digit strings answer no question.
_DIGITS = (
    r"(?:[0-9]{1,3}(?:(?:,[0-9]{3}){1,3}|(?:'[0-9]{3}){1,3}|(?: [0-9]{3}){1,3})|[0-9]{1,12})"
    r"(?P<fraction>\.[0-9]+)?(?![\w%'-]|[.,][0-9])"
)
_NUMBER = re.compile(rf"(?<![\w.,'+−–-])(?:(?P<digits>{_DIGITS})|(?P<words>{_WORDS}))")
_DASHED = re.compile(rf"[–−]{_WORDS}")  # the end of a range, or a negative number
_SQUARE_METRES = re.compile(
    r"(?<![a-z])(?:m2|m\^2|m ?²|㎡|sq\.? ?m(?:et(?:er|re)s?)?|square[- ]met(?:er|re)s?)(?!\w)"
)
# Words and signs that make a number something else than an exact count.
_NOT_EXACT = word_set(
    """minus negative than least most over under above below nearly almost exceeding plus up
    between maximum minimum dozen dozens hundred hundreds thousand thousands million millions
    billion half percent times m km metre metres meter meters kilometre kilometres kilometer
    kilometers feet ft ha hectare hectares acre acres pixel pixels"""
)
_SIGNS = re.compile(r"[%$€£°<>=/\\^×+≥≤≠±]")
_RANGE = re.compile(r"\bbetween # (?P<low>sqm )?and #(?P<high> sqm)?")
_BEYOND = re.compile(r"(?:\b(?:more than|greater than|over) |> ?)#(?P<high> sqm)?")


@dataclass(frozen=True, slots=True)
class Numbers:
    """A text with its numbers extracted.

    Attributes:
        template: the text with ``#`` for each number and ``sqm`` for each unit of area.
        values: the numbers, truncated to integers.
        whole: whether all numbers are integers.
    """

    template: str
    values: tuple[int, ...]
    whole: bool

    @property
    def words(self) -> list[str]:
        """The words around the numbers."""
        return re.findall(r"[a-z]+(?:'[a-z]+)?", self.template)


def bucket(value: int, unit: str = "") -> str:
    """Return the official bucket of a count or (``unit="m2"``) of an area.

    Zero is a bucket of its own; upper bounds are inclusive: 10 is ``between 0 and 10`` (Lobry et
    al. 2020).
    """
    if value == 0:
        return f"0{unit}"
    for low, high in zip((0, *_BOUNDS), _BOUNDS, strict=False):
        if value <= high:
            return f"between {low}{unit} and {high}{unit}"
    return f"more than {_BOUNDS[-1]}{unit}"


BUCKETS, AREA_BUCKETS = (
    tuple(bucket(n, unit) for n in (0, 5, 50, 500, 5000)) for unit in ("", "m2")
)


def scan(text: str) -> Numbers | None:
    """Extract the numbers of a lower-case text; None if one of them is ambiguous."""
    values: list[int] = []
    fractions: list[str] = []

    def take(found: re.Match[str]) -> str:
        if found["fraction"]:
            fractions.append(found["fraction"][1:])
        values.append(_value_of_words(found["words"]) if found["words"] else _value(found[0]))
        return "#"

    template = _NUMBER.sub(take, _SQUARE_METRES.sub(" sqm", text))
    # three decimals may be thousands in German or Portuguese notation
    if any(c.isnumeric() for c in template) or any(len(f) == 3 for f in fractions):
        return None
    if _DASHED.search(template):
        return None
    whole = not any(f.strip("0") for f in fractions)
    return Numbers(" ".join(template.split()), tuple(values), whole)


def _value(digits: str) -> int:
    return int(re.sub(r"[,' ]", "", digits.partition(".")[0]))


def _value_of_words(text: str) -> int:
    total = current = 0
    for word in re.findall(r"[a-z]+", text):
        if word == "hundred":
            current *= 100
        elif word == "thousand":
            total, current = current * 1000, 0
        elif word != "and":
            current += _VALUES[word]
    return total + current


def quantity(found: Numbers, unit: str) -> str | None:
    """Return the single quantity in a text: ``47``, ``624m2`` or an official bucket.

    Buckets are read in the official spelling (``between 0 and 10``), in big_vision's
    (``between 1 and 10``, ``between 1 m2 and 10 m2``) and in ConfigILM's, and returned in the
    official one.

    Args:
        found: the scanned answer.
        unit: ``""`` for counts, ``"m2"`` for areas; an area needs its unit unless it is 0, and a
            count must not have one. Areas are truncated to integers, as in the data set.
    """
    return _named_bucket(found, unit) or _exact(found, unit)


def _named_bucket(found: Numbers, unit: str) -> str | None:
    match = _RANGE.search(found.template) or _BEYOND.search(found.template)
    if match is None or not found.whole or found.template.count("#") != match[0].count("#"):
        return None
    rest = found.template.replace(match[0], "", 1)
    if _SIGNS.search(rest) or _NOT_EXACT & set(re.findall(r"[a-z]+", rest)) or "sqm" in rest:
        return None
    if bool(match["high"]) != bool(unit) or (match.groupdict().get("low") and not unit):
        return None
    if len(found.values) == 1:
        return bucket(_BOUNDS[-1] + 1, unit) if found.values[0] == _BOUNDS[-1] else None
    low, high = found.values
    official = dict(zip(_BOUNDS, (0, *_BOUNDS), strict=False)).get(high)
    return bucket(high, unit) if official is not None and low in (official, official + 1) else None


def _exact(found: Numbers, unit: str) -> str | None:
    if len(found.values) != 1 or _SIGNS.search(found.template) or _NOT_EXACT & set(found.words):
        return None
    value = found.values[0]
    if unit:
        stated = "# sqm" in found.template or (value == 0 and found.whole)
        return f"{value}{unit}" if stated else None
    return str(value) if found.whole and "sqm" not in found.words else None
