"""Faults of questions and answers, each with where it is."""

from dataclasses import replace

import pytest

from factory import make_samples
from qwen2vl_rs.checking.answers import (
    balance,
    blank_texts,
    contradictions,
    duplicate_ids,
    duplicates,
    unknown_types,
    unreadable_answers,
)
from qwen2vl_rs.checking.parts import Part, Parts
from qwen2vl_rs.datasets.base import Dataset
from qwen2vl_rs.types import Sample

ROAD = Sample("a", "1.tif", "Is there a road?", "yes", "presence")


def parts(*samples, **others):
    given = {"train": samples, **others}
    return Parts([Part(name, Dataset.of(rows), f"{name}.json") for name, rows in given.items()])


CHECKS = (
    blank_texts,
    duplicate_ids,
    unknown_types,
    unreadable_answers,
    contradictions,
    duplicates,
)


@pytest.mark.parametrize("check", CHECKS)
def test_good_questions_have_no_fault(check, tmp_path):
    found = check(parts(*make_samples(tmp_path)))
    assert (found.verdict, found.count, found.examples) == ("ok", 0, ())


@pytest.mark.parametrize("check", CHECKS)
def test_one_question_is_enough_to_be_checked(check):
    assert check(parts(ROAD)).verdict == "ok"


def test_contradictions_are_compared_in_normal_form_whatever_the_wording():
    same = replace(ROAD, id="b", answer="Yes.")
    assert contradictions(parts(ROAD, same)).count == 0
    other = replace(ROAD, id="c", question="is there  a road in the image", answer="no")
    found = contradictions(parts(same, replace(ROAD, id="x", image="2.tif", answer="no"), other))
    assert (found.verdict, found.count) == ("warning", 1)
    (example,) = found.examples
    assert (example.id, example.number, example.file) == ("c", 3, "train.json")
    assert example.detail == "'no', but 'Yes.' for b"


def test_contradictions_between_parts_name_the_part():
    (example,) = contradictions(parts(ROAD, test=[replace(ROAD, answer="no")])).examples
    assert (example.part, example.number) == ("test", 1)
    assert example.detail == "'no', but 'yes' for a (train)"


def test_what_cannot_be_read_contradicts_nothing():
    assert contradictions(parts(ROAD, replace(ROAD, id="b", answer="perhaps"))).count == 0


def test_the_options_of_a_question_decide_what_its_answer_means():
    asked = "Which is it?\nA. road\nB. lake"
    one = Sample("a", "1.tif", asked, "A", "choice")
    found = contradictions(parts(one, replace(one, id="b", answer="road")))
    assert found.count == 0  # the letter and the text of the same option
    assert contradictions(parts(one, replace(one, id="b", answer="lake"))).count == 1
    other = replace(one, id="b", question="Which is it?\nA. lake\nB. road", answer="A")
    assert contradictions(parts(one, other)).count == 0  # another question
    same = [replace(other, answer=text, id=text) for text in ("road", "B")]
    same += [replace(one, answer=text, id=f"a{text}") for text in ("road", "A")]
    assert contradictions(parts(*same)).count == 0  # "road" is B in one, and A in the other


def test_duplicates_are_those_of_a_part():
    again = replace(ROAD, id="b", answer="yes ")
    found = duplicates(parts(ROAD, again, replace(ROAD, id="c"), test=[ROAD]))
    assert (found.verdict, found.count) == ("warning", 2)
    assert [one.id for one in found.examples] == ["b", "c"]
    assert found.examples[0].detail == "the same as a (train)"
    unreadable = [replace(ROAD, id=str(k), answer=text) for k, text in enumerate(["hm", "hm", "?"])]
    assert duplicates(parts(*unreadable)).count == 1


def test_unreadable_answers_are_counted_by_type():
    many = Sample("m", "1.tif", "How many roads are there?", "many", "count")
    found = unreadable_answers(parts(ROAD, replace(ROAD, id="b", answer="hm"), many))
    assert (found.verdict, found.count) == ("error", 2)  # no count can be read
    assert "presence: 1, count: 1" in found.text
    assert found.text.endswith("of count none is")
    assert [one.detail for one in found.examples] == ["'hm'", "'many'"]
    found = unreadable_answers(parts(many, replace(many, id="b", answer="3")))
    assert found.verdict == "warning"


def test_empty_texts_and_ids_that_occur_twice_stop_training():
    empty = replace(ROAD, id="b", answer=" \n")
    found = blank_texts(parts(ROAD, empty, test=[replace(ROAD, id="c", question="")]))
    assert (found.verdict, found.count) == ("error", 2)
    assert [one.detail for one in found.examples] == [
        "the answer is empty",
        "the question is empty",
    ]
    assert unreadable_answers(parts(ROAD, empty)).count == 0  # said once
    found = duplicate_ids(parts(ROAD, empty, replace(ROAD, id="b"), test=[ROAD]))
    assert (found.verdict, found.count) == ("error", 1)
    assert (found.examples[0].id, found.examples[0].number) == ("b", 3)


def test_types_are_known_by_name_or_by_wording():
    rows = [
        replace(ROAD, type=""),
        replace(ROAD, id="b", type="Presence"),
        Sample("c", "1.tif", "Which is it?\nA. road\nB. lake", "A", "choice/scene"),
        Sample("d", "1.tif", "Describe the mood.", "gloomy"),
        Sample("e", "1.tif", "Which sensor?", "S2", "sensor"),
    ]
    found = unknown_types(parts(*rows))
    assert (found.verdict, found.count) == ("warning", 2)
    assert "(other: 1, sensor: 1)" in found.text
    assert [one.id for one in found.examples] == ["d", "e"]


def test_the_balance_of_each_type_in_the_order_of_the_published_tables():
    rows = [
        replace(ROAD, id=str(k), image=f"{k}", answer=a) for k, a in enumerate(["no", "yes", "No"])
    ]
    count = Sample("m", "1.tif", "How many roads are there?", "many", "count")
    presence, counts = balance(parts(count, *rows))
    assert (presence.type, presence.n, presence.distinct) == ("presence", 3, 2)
    assert (presence.majority, presence.share) == ("no", 2 / 3)
    assert (counts.majority, counts.share, counts.distinct) == ("", 0.0, 0)
