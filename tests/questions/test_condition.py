"""Whether an image or a road is flooded."""

import pytest

from qwen2vl_rs.questions.answer_sets import answer_sets
from qwen2vl_rs.questions.grammar import question_type
from qwen2vl_rs.questions.normal_forms import normalise
from qwen2vl_rs.questions.registry import official_type


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("Flooded.", "flooded"),
        ("The road is flooded", "flooded"),
        ("The road is not flooded", "non flooded"),
        ("It isn't flooded", "non flooded"),
        ("non flooded", "non flooded"),
        ("non-flooded", "non flooded"),
        ("nonflooded", "non flooded"),
        ("flooded or non flooded", None),
        ("flooded, not non flooded", None),
        ("maybe flooded", None),
        ("a road", None),
        ("no", None),
    ],
)
def test_one_condition_is_said(answer, found):
    assert normalise(answer, "condition") == found
    assert normalise(found or "", "condition") == found


def test_it_is_asked_about_in_its_wordings():
    for asked in ("image", "road", "the road in this image", "the given image"):
        assert question_type(f"What is the condition of {asked}?") == "condition"
    assert question_type("What is the overall condition of the given image?") == "condition"
    assert official_type("Condition_Recognition") == "condition"
    assert answer_sets((), "FloodNet")["condition"].texts == ("flooded", "non flooded")
