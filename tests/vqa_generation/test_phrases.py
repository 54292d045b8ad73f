"""RSVQA's wording, as published and mended."""

import numpy as np
import pytest

from qwen2vl_rs.questions.elements import _LAND, LAYERS
from qwen2vl_rs.questions.grammar import question_type
from qwen2vl_rs.vqa_generation.phrases import COMPARATORS, TEMPLATES, Wording, fill_template
from qwen2vl_rs.vqa_generation.referring import Phrase

LEGACY, LR, CORRECTED = Wording(True), Wording(True, bare=True), Wording(False)


@pytest.mark.parametrize(
    ("value", "legacy", "corrected"),
    [
        ("cemetery", "cemeterys", "cemeteries"), ("pitch", "pitchs", "pitches"),
        ("allotments", "allotmentss", "allotments"), ("grass", "grass areas", "grass areas"),
        ("place_of_worship", "place of worships", "places of worship"),
        ("village_green", "village greens", "village greens"), ("railway", "railways", "railways"),
        ("university", "universitys", "universities"), ("barracks", "barrackss", "barracks"),
    ],
)  # fmt: skip
def test_plurals(value, legacy, corrected):
    phrase = Phrase("land", value)
    assert LEGACY.things(phrase, False) == legacy
    assert CORRECTED.things(phrase, False) == corrected


def test_articles():
    assert CORRECTED.thing(Phrase("land", "orchard"), False) == "an orchard"
    assert CORRECTED.thing(Phrase("land", "university"), False) == "a university"
    assert CORRECTED.thing(Phrase("land", "orchard", "large"), False) == "a large orchard"
    assert LEGACY.thing(Phrase("land", "industrial"), False) == "a industrial area"
    assert LR.thing(Phrase("land", "industrial"), False) == "a industrial"


def test_relations():
    phrase = Phrase("building", "building", "", "next to", Phrase("land", "orchard", "small"))
    assert LEGACY.things(phrase, True) == "buildings next to the  small orchard"
    assert LEGACY.things(phrase, False) == "buildings next to a  small orchard"
    assert CORRECTED.thing(phrase, True) == "a building next to the small orchard"
    assert CORRECTED.thing(phrase, False) == "a building next to a small orchard"


def test_every_noun_in_every_template_is_recognised():
    rng = np.random.default_rng(0)
    values = sorted(value for values in _LAND.values() for value in values)
    phrases = [Phrase("land", v) for v in values] + [Phrase("road", "road")]
    for wording in (LEGACY, LR, CORRECTED):
        for phrase in phrases:
            words = {"a": wording.thing(phrase, False), "things": wording.things(phrase, False)}
            for kind in TEMPLATES:
                for _ in range(3):
                    text = fill_template(rng, kind, others="roads", **words)
                    expected = "comp" if kind in COMPARATORS else kind
                    assert question_type(text) == expected, text
        assert question_type(wording.rural_urban()) == "rural_urban"
    assert set(LAYERS) == {"building", "road", "water", "land"}


def test_templates_are_drawn_evenly_and_one_in_ten_has_the_suffix():
    rng = np.random.default_rng(1)
    texts = [fill_template(rng, "count", things="roads") for _ in range(6000)]
    starts = [sum(t.startswith(s) for t in texts) / 6000 for s in
              ("How many", "What is the number", "What is the amount")]  # fmt: skip
    assert starts == pytest.approx([1 / 3] * 3, abs=0.03)
    suffix = sum(t.endswith(" in the image?") for t in texts) / 6000
    assert suffix == pytest.approx(0.1, abs=0.015)
    assert all(t.endswith("?") for t in texts)
