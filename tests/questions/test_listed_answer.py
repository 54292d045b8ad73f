"""EarthVQA's answers: classes, shares of the area, and sentences that are lists."""

import pytest

from qwen2vl_rs.questions.clean import clean
from qwen2vl_rs.questions.normal_forms import normalise
from qwen2vl_rs.questions.protocols import scores_of

SENTENCE = "There are residential, and industrial areas"


@pytest.mark.parametrize(
    ("answer", "kind", "found"),
    [
        (SENTENCE, "Comprehensive Analysis", "industrial, residential"),
        ("Industrial and residential areas.", "Comprehensive Analysis", "industrial, residential"),
        ("residential areas & an urban area", "Comprehensive Analysis", "residential, urban"),
        ("There are no water areas, and ponds", "Object Situation Analysis", None),
        ("There is no need", "Comprehensive Analysis", "no need"),
        ("Yes", "Object Situation Analysis", "yes"),
        ("between 10% and 20%", "Object Situation Analysis", "10%-20%"),
        ("Rural", "Basic Judging", "rural"),
        ("Yes, it is.", "Reasoning-based Judging", "yes"),
        ("no", "Basic Judging", "no"),
        ("not urban", "Basic Judging", None),
        ("rural or urban", "Basic Judging", None),
        ("three", "Basic Counting", "3"),
        ("10-20 %", "Reasoning-based Counting", "10%-20%"),
        ("0%", "Basic Counting", "0%"),
        ("10%-20% or 20%-30%", "Basic Counting", None),
        ("not 10%-20%", "Basic Counting", None),
        ("many", "Basic Counting", None),
    ],
)
def test_answers_have_a_normal_form(answer, kind, found):
    if found is None and "Analysis" in kind:  # what is denied is kept in one piece
        found = clean(answer).removeprefix("there are ")
    assert normalise(answer, kind) == found
    if found:
        assert normalise(found, kind) == found


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ("industrial and residential", 1),
        ("There are industrial areas", 0),
        ("There are residential, industrial and commercial areas", 0),
        ("residential or industrial areas", 0),
        ("There are no residential, and industrial areas", 0),
    ],
)
def test_sentences_are_compared_as_sets(said, score):
    kind = "Comprehensive Analysis"
    gold, predicted = normalise(SENTENCE, kind), normalise(said, kind)
    assert scores_of([kind], [gold], [predicted]).tolist() == [score]
