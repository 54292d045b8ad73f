"""Normal forms: what is one clear answer, and what is none."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qwen2vl_rs.questions.clean import clean
from qwen2vl_rs.questions.normal_forms import normalise
from qwen2vl_rs.questions.numbers import bucket
from qwen2vl_rs.questions.registry import OFFICIAL

TYPES = tuple(one.name for one in OFFICIAL)

# Whoever says "know", "tell", "sure" or "can" … "not" has not said that he does not know.
NOES = [
    *("No, not a single road can be seen", "No, I'm sure there is no road"),
    *("No, there are no roads for sure", "No, there is not a road that I can see"),
    *("No, not that I can see", "No, none that I know of", "No, I would say it is not"),
    *("No, I know there are none", "No, needless to say there are none"),
    *("No, there can not be more roads than buildings", "No, there cannot be more"),
    *("No, I wouldn't say so", "No, I would not say so", "No, not as far as I can tell"),
    *("No, roads are not clearly visible", "No, I don't think so", "No, surely there are none"),
]
IGNORANCE = [
    *("I don't know", "I do not know", "I dont know", "I wouldn't know", "I do not remember"),
    *("I have no idea", "no idea", "I haven't a clue", "I am not certain", "not certain"),
    *("I am not sure", "I'm not really sure", "I'm not 100% sure", "not for sure", "who knows"),
    *("it is not known", "it is not clear", "it isn't clear", "not clear", "nobody can tell"),
    *("hard to tell", "it is difficult to say", "it is too dark to tell", "there's no telling"),
    *("no way to determine", "there is no way to tell", "I couldn't say", "I am not able to tell"),
    *("I can't tell", "I cannot tell", "I can not tell", "one can not tell", "one cannot tell"),
    *("I can not see it", "it can not be determined", "it could not be determined"),
    *("I could not really say", "the image does not say"),
]

CLEAR = {
    "presence": {
        "yes": ["yes", "Yes.", "YES", "**Yes**", "'yes'", '"Yes."', " yes \n", "Answer: yes"],
        "no": [
            *("no", "No!", "No.", "`no`", "The answer is **no**.", "answer is: no", "- No"),
            *("No, roads cannot be seen.", "No, no roads.", "No.\n\nThere is no road.", "Ｎｏ。"),
            *("No, roads can't be seen.", "No, I don't see a road.", "No, a road can not be seen."),
            *("No, there is no road", "No, there cannot be a road", "No, no doubt"),
            *NOES,
        ],
    },
    "comp": {
        "yes": ["Yes, there are more buildings than roads.", "yes there are", "Yes\n\nThere are."],
        "no": ["No, there are not more roads.", "No. There are fewer roads than buildings.", *NOES],
    },
    "rural_urban": {
        "rural": ["rural", "Rural.", "It is a rural area.", "The area shown is rural, with fields"],
        "urban": ["Urban", "It is an urban area.", "urban area", "This image shows an urban area."],
    },
    "count": {
        "12": [
            *("12", "12.", "twelve", "There are 12 buildings.", "about 12", "**12**", "Yes, 12"),
            *("12.0", "１２", "12\nbuildings", "12</s>", "12<|im_end|>\n13"),
        ],
        "1234": ["1,234", "1'234", "1’234", "1 234", "1\u202f234", "1234 roads"],
        "0": ["0", "zero", "There are no roads.", "No roads.", "There aren't any water areas."],
        "99": ["ninety-nine", "ninety nine", "There are ninety-nine small buildings"],
        "21": ["Twenty-one"],
        "100": ["a hundred", "one hundred"],
        "305": ["three hundred and five", "three hundred five"],
        "12017": ["twelve thousand and seventeen", "twelve thousand seventeen"],
        "200340": ["two hundred thousand, three hundred and forty"],
        "between 0 and 10": ["between 0 and 10", "Between 1 and 10", "between one and ten."],
        "between 10 and 100": ["between 10 and 100", "There are between 11 and 100 roads."],
        "between 100 and 1000": ["between 101 and 1,000", "between 100 and 1000 buildings"],
        "more than 1000": ["more than 1000", "> 1000", ">1000", "over 1,000", "More than 1000."],
    },
    "area": {
        "624m2": [
            *("624m2", "624 m2", "624 m²", "624m^2", "624 square meters", "624 square metres."),
            *("624 sq m", "624 sqm", "624.9 m2", "The area is 624 m².", "about 624 sq. meters"),
        ],
        "13127m2": ["13,127 m2", "13127m2"],
        "0m2": ["0m2", "0 m2", "0", "zero", "zero square meters", "There are no buildings."],
        "between 0m2 and 10m2": ["between 0m2 and 10m2", "between 1 m2 and 10 m2"],
        "between 10m2 and 100m2": ["between 11m2 and 100m2", "between 10 and 100 m2"],
        "between 100m2 and 1000m2": ["between 100 m² and 1000 m²", "between 101m2 and 1000m2"],
        "more than 1000m2": ["more than 1000m2", "more than 1000 m2", "over 1,000 square meters"],
    },
    "LC": {
        "none": ["None", "none."],
        "mixed forest and water bodies": ["Mixed forest  and water bodies"],
    },
}

SENTENCES = {
    "There is a road.": "yes",
    "There are several small buildings in the image.": "yes",
    "There are two roads.": "yes",
    "A road is visible in the image.": "yes",
    "There is no road.": "no",
    "There are 0 roads": "no",
    "There isn't a water area.": "no",
    "There are not any cemeteries.": "no",
    "No road is present.": "no",
    "Roads are not visible": "no",
    "No roads": "no",
    "no, there is no road": "no",
}

UNCLEAR = {
    "presence": [
        *("yes no", "yes/no", "no yes", "yes or no", "yes, or no", "Yes, but no.", "not yes"),
        *("No idea.", "no answer", "No image", "There is no way to tell.", "yesterday", "y", "n"),
        *("There is not enough information.", "There is a problem", "Many buildings", "nope"),
        *("No, there is a road.", "There are not no roads", "No, I cannot determine that", "0"),
        *("No, a road can be seen.", "No. 12", "no 12", "No, a road is seen", "<|im_end|>yes"),
        *("Yes, no roads.", "Yes, a road cannot be found", "No roads because it is a desert"),
        *("There is a road or a path", "urban", "12", "between 0 and 10", "know", "no-one"),
        *("No, I can’t see it.", "Yes, but I can't tell", "No, I can not tell."),
        *(f"{said}, {text}" for said in ("No", "Yes") for text in IGNORANCE),
    ],
    "comp": [
        *("There are more roads than buildings.", "more", "No more roads than buildings", "equal"),
        *("No roads.", "yes no", "No idea", "maybe yes", "yes, if small", "both"),
        *(f"{said}, {text}" for said in ("No", "Yes") for text in IGNORANCE),
    ],
    "rural_urban": [
        *("no", "yes", "rural or urban", "rural/urban", "not urban", "suburban", "semi-urban"),
        *("It is a rural area with urban parts.", "It isn't rural", "neither rural", "rur", "area"),
        *("hardly urban", "barely urban", "far from urban", "less urban", "almost rural"),
        *("I cannot say whether it is urban", "peri-urban", "perhaps urban"),
        *("It is hard to tell, urban", "urban, but who knows", "rural, no idea"),
    ],
    "count": [
        *("12 or 13", "12-13", "12 to 13", "12, 13", "at least 12", "more than 12", "no", "none"),
        *("−12", "–12", "+12", "about −5", "- 5 to −5"),  # however minus is written
        *("twenty–five", "five–ten", "five−ten", "3–five", "zero–one", "there are one–two roads"),
        *("12.5", "-12", "12%", "1/2", "½", "1e3", "12 m2", "12 km", "1,23", "1.234", "12+"),
        *("≥10", "≤ 10", "± 10", "10 ± 2", "≠10", "minus five", "negative 5", "1.000", "10²", "1²"),
        *("over 12", "dozens", "two dozen", "2 thousand", "a million", "No idea.", "between"),
        *("between 0 and 100", "between 3 and 10", "between 0m2 and 10m2", "more than 1000m2"),
        *("more than 1001", "over 5,000", "> 10000", "more than 999"),
        *("no more than 1000", "not 12", "1000 or more", "between 10 and 0", "less than 10", "5²"),
        *(
            "12 buildings and 3 roads",
            "twelve thirteen",
            "9" * 13,
            "1 000 000 000 000",
            "9" * 5000,
            "a building",
            "٣",
        ),
        *("12, hard to say", "12, who knows", "I cannot tell, 12", "No idea, 12"),
        *("ninety-nine hundred", "more than 1000 or 3", "12-storey", "between 0 and 10, or 12"),
    ],
    "area": [
        *("624", "624 m", "624 km2", "2 ha", "between 0 and 10", "more than 1000", "-5 m2", "m2"),
        *("no", "none", "624 m2 or 700 m2", "more than 624 m2", "0.4", "0 km2", "10 m2 and 20 m2"),
        *("more than 1001 m2", "over 5,000 m2", "more than 999m2"),
        *("1.234 m2", "1.000 m2", "≥ 10 m2", "minus 5 m2"),
        *("between 10m2 and 100", "yes", "large", "2 square kilometers", "0%"),
    ],
}


def cases(table):
    return [
        (t, said, want) for t, forms in table.items() for want, f in forms.items() for said in f
    ]


@pytest.mark.parametrize(("type", "said", "want"), cases(CLEAR))
def test_clear_answers(type, said, want):
    assert normalise(said, type) == want


@pytest.mark.parametrize(("said", "want"), SENTENCES.items())
def test_sentences_about_presence(said, want):
    assert normalise(said, "presence") == want


@pytest.mark.parametrize(("type", "said"), [(t, s) for t, all in UNCLEAR.items() for s in all])
def test_unclear_answers_are_none(type, said):
    assert normalise(said, type) is None


@pytest.mark.parametrize("type", [t for t in TYPES if t != "LC"])
@pytest.mark.parametrize(
    "said", ["unknown", "none", "", " ", "yes no", "n/a", "null", "nan", "?", "*", "\x00", "<eos>"]
)
def test_nonsense_is_no_answer_to_anything(type, said):
    assert normalise(said, type) is None


def test_an_answer_to_one_kind_of_question_is_none_to_another():
    kinds = {"yes": ("presence", "comp"), "no": ("presence", "comp"), "urban": ("rural_urban",)}
    kinds |= {"rural": ("rural_urban",), "47": ("count",), "624m2": ("area",)}
    kinds |= {"between 0 and 10": ("count",), "between 0m2 and 10m2": ("area",), "0m2": ("area",)}
    for said, mine in kinds.items():
        for type in (t for t in TYPES if t not in ("LC", "other")):
            assert (normalise(said, type) is not None) == (type in mine), (said, type)


def test_other_types_keep_their_text_but_for_a_leading_yes_or_no():
    assert normalise("Yes, it is flooded.", "flood") == "yes"
    assert normalise("**Light  damage**.", "damage") == "light damage"
    assert normalise("no damage", "damage") == "no damage"
    assert normalise(" . ", "damage") is None


def test_buckets_are_half_open_at_the_low_end():
    edges = {0: "0", 1: "between 0 and 10", 10: "between 0 and 10", 11: "between 10 and 100"}
    edges |= {100: "between 10 and 100", 101: "between 100 and 1000", 1000: "between 100 and 1000"}
    edges |= {1001: "more than 1000", 16218: "more than 1000"}
    assert {n: bucket(n) for n in edges} == edges
    assert bucket(10, "m2") == "between 0m2 and 10m2"


@given(st.integers(0, 10**9))
def test_numbers_in_every_spelling(n):
    spelled = [f"{n}", f"{n:,}", f"{n:,}".replace(",", "'"), f"{n:,}".replace(",", " ")]
    assert {normalise(s, "count") for s in spelled} == {str(n)}
    assert normalise(f"{n:,} m²", "area") == f"{n}m2"


@given(st.integers(0, 2000), st.sampled_from(["", "m2"]))
def test_buckets_are_their_own_normal_form(n, unit):
    assert normalise(bucket(n, unit), "area" if unit else "count") == bucket(n, unit)


VOCABULARY = """yes no not or rural urban 12 0 3 m2 between and 10 100 more than 1000 there is are a
the road buildings in image none zero twenty one hundred thousand , . ** ' - ; :"""
words = st.sampled_from(VOCABULARY.split())


@given(st.one_of(st.text(), st.lists(words).map(" ".join)), st.sampled_from([*TYPES, "other"]))
@example("answer: answer: 'x'", "LC")
def test_normal_forms_are_their_own_normal_forms(text, type):
    assert clean(clean(text)) == clean(text)
    normal = normalise(text, type)
    if normal is not None:
        assert normalise(normal, type) == normal


def test_long_texts_are_no_answers():
    assert normalise("yes " + "very " * 300, "presence") is None


TAILS = [
    *("", ".", "!", "</s>", "<|im_end|>", "<|im_end|>\n<|im_start|>user", "\nBecause.", "\r\n"),
    *(" because it is dry", " since it is dry", " 100%", " (clear)", "，", "。", "？", " ✓", " …"),
    *(", I think so.", "\n\nI see.", "\n{}", ". {}.", " {}", ", {}!", " - that is the answer"),
    *("; it is clear", ", maybe", " or so", " and perhaps", ", but small", " if you look"),
    *("?? unclear", "/{}", "-ish"),
]  # fmt: skip


@pytest.mark.parametrize("type", ["presence", "comp", "flood"])
@pytest.mark.parametrize("tail", TAILS)
def test_no_is_judged_as_strictly_as_yes(type, tail):
    """But for words that negate, and for "no" before a noun, which belongs to the noun."""
    read = {said: normalise(said.title() + tail.format(said), type) for said in ("yes", "no")}
    if type == "flood":
        assert (read["yes"] == "yes") == (read["no"] == "no")
    else:
        assert read in ({"yes": "yes", "no": "no"}, {"yes": None, "no": None})


def test_reading_takes_no_longer_than_a_text_is_long():
    start = time.process_time()
    for text in (
        "answer: " * 8000,
        "answer: '" * 8000,
        "no " * 20_000,
        "\n" * 60_000,
        "(" * 60_000,
        "no, not very " * 5000,
        "no, i am not " + "very" * 20_000,
        "no, too " + "a" * 60_000,
    ):
        clean(text)
        for type in TYPES:
            normalise(text[:1000], type)
    assert time.process_time() - start < 1
