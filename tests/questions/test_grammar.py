"""The type of a question, and the keys it is looked up by."""

import json
from pathlib import Path

import pytest

from qwen2vl_rs.questions.grammar import (
    backoff_keys,
    canonical,
    noun,
    question_type,
    template,
    type_of,
)
from qwen2vl_rs.questions.normal_forms import normalise
from qwen2vl_rs.types import Prediction

DATA = Path(__file__).parents[3] / "shared" / "data"

QUESTIONS = {
    "Is it a rural or an urban area": "rural_urban",
    "is it an urban or a rural area?": "rural_urban",
    "Is there a water area?": "presence",
    "Is a water area next to a  commercial building present in the image?": "presence",
    "  is THERE a   road  ": "presence",
    "Is there more than one road?": "presence",
    "How many rectangular farmlands at the bottom of a  water area are there?": "count",
    "how many roads are there in the image": "count",
    "What is the number of roads?": "count",
    "What is the amount of grass areas on the left of a  circular road?": "count",
    "Is the number of parkings equal to the number of buildings in the image?": "comp",
    "Are there less roads than residential buildings?": "comp",
    "Are there more grass areas next to the  building than buildings?": "comp",
    "What is the area covered by universitys in the image?": "area",
    "Are some transitional woodland/shrub present?": "presence",
    "Are there permanent crops or inland waters?": "presence",
    "Are pastures and maritime wetlands present?": "presence",
    "Are there some forests in the scene?": "presence",
    "Besides transitional woodland/shrub and mixed forest, what classes are in the scene?": "LC",
    "What L2 land cover classes are there in the image?": "LC",
    "Which land cover classes are in the scene?": "LC",
    "Which L3 classes are in the image?": "LC",
    "What are all the land cover classes in the scene?": "LC",
    "In addition to arable land, which classes are in the image?": "LC",
    "What colour is the roof?": "other",
    "Is the building tall?": "other",
    "How many": "other",
    "": "other",
}


@pytest.mark.parametrize(("question", "want"), QUESTIONS.items())
def test_question_type(question, want):
    assert question_type(question) == want


@pytest.mark.parametrize(
    ("stored", "want"),
    [
        ("presence", "presence"), ("Presence", "presence"), ("Counting", "count"),
        ("COUNT", "count"), ("comparison", "comp"), ("Rural/Urban", "rural_urban"),
        ("rural_urban", "rural_urban"), ("urban-rural", "rural_urban"), ("area ", "area"),
        ("lc", "LC"), ("Land cover", "LC"), ("colour", "colour"), ("", "presence"),
    ],
)  # fmt: skip
def test_stored_types_have_other_names(stored, want):
    assert type_of(Prediction("", "", "Is there a road?", stored, "yes", "yes")) == want


def test_meaningless_differences_are_removed():
    assert canonical("Is a road next to the  building present in the image?") == canonical(
        "is a road next to a building present"
    )
    assert noun("small roads next to water area") == "roads"
    assert noun("square") == "square"


def test_wordings_of_one_question_share_a_key_below_the_wording():
    one = backoff_keys("Is there a small road?", "presence")
    two = backoff_keys("Is a small road present in the image?", "presence")
    assert one[0] != two[0]
    assert one[1] != two[1]
    assert one[2:] == two[2:]
    assert (
        backoff_keys("How many small roads are there?", "count")[3]
        == (backoff_keys("What is the amount of roads next to a  park?", "count")[3])
    )


@pytest.mark.parametrize(
    ("question", "want"),
    [
        ("Is there a water area in the image?", "is there [object]?"),
        ("Is a square road next to the  lake present?",
         "is a [attribute] [object] [relation] [object] present?"),
        ("Are there more roads than small parks?",
         "are there more [object] than [attribute] [object]?"),
        ("Is the number of roads equal to the number of parks?",
         "is the number of [object] equal to the number of [object]?"),
        ("How many roads are there", "how many [object] are there?"),
        ("Is it a rural or an urban area", "is it a rural or an urban area?"),
        ("Which L3 classes are in the image?", "which [object] classes are?"),
        ("What colour is  the roof?", "what colour is the roof"),
    ],
)  # fmt: skip
def test_templates(question, want):
    assert template(question) == want


def test_comparators_and_operands_are_kept_apart():
    asked = [
        "Are there less roads than parks?",
        "Are there more roads than parks?",
        "Are there more parks than roads?",
        "Is the number of roads equal to the number of parks?",
    ]
    assert len({backoff_keys(q, "comp")[2] for q in asked}) == 4
    assert len({backoff_keys(q, "comp")[4] for q in asked}) == 3


def test_every_key_but_the_last_tells_comparators_apart():
    asked = [f"Are there {word} roads than parks?" for word in ("more", "less")]
    asked.append("Is the number of roads equal to the number of parks?")
    keys = [backoff_keys(question, "comp") for question in asked]
    assert {len(one) for one in keys} == {6}
    for at in range(5):
        assert len({one[at] for one in keys}) == 3, keys[0][at]
    assert len({one[5] for one in keys}) == 1


def records(file, kind):
    return [r for r in json.loads(file.read_text())[kind] if r["active"]]


@pytest.mark.parametrize("dataset", ["rsvqa-lr", "rsvqa-hr"])
def test_every_real_question_and_answer(dataset):
    files = sorted((DATA / dataset).glob("*_questions.json"))
    if not files:
        pytest.skip(f"real RSVQA files are not at {DATA / dataset}")
    for file in files:
        questions = records(file, "questions")
        answers_file = file.with_name(file.name.replace("questions", "answers"))
        answers = {a["question_id"]: a["answer"] for a in records(answers_file, "answers")}
        assert len(questions) > 1000
        assert [q["type"] for q in questions] == [question_type(q["question"]) for q in questions]
        for q in questions:
            assert normalise(answers[q["id"]], q["type"]) == answers[q["id"]]
