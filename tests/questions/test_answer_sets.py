import pytest

from qwen2vl_rs.questions.answer_sets import MAX_CANDIDATES, answer_sets
from qwen2vl_rs.questions.registry import type_named
from qwen2vl_rs.types import Sample

COUNT, AREA = "How many roads are there?", "What is the area covered by roads?"


def samples(question, *answers):
    return [Sample(str(i), "a.tif", question, a) for i, a in enumerate(answers)]


def test_yes_no_and_rural_urban_are_closed_by_themselves():
    sets = answer_sets([], "LR")
    assert sets["presence"].texts == sets["comp"].texts == ("no", "yes")
    assert set(sets["rural_urban"].classes) == {"rural", "urban"}


@pytest.mark.parametrize(
    ("dataset", "kind", "texts"),
    [
        ("LR", "count", ["0", "between 0 and 10", "between 10 and 100", "between 100 and 1000",
                         "more than 1000"]),
        ("HR", "count", [str(n) for n in range(90)]),
        ("HR", "area", ["0m2", "between 0m2 and 10m2", "between 10m2 and 100m2",
                        "between 100m2 and 1000m2", "more than 1000m2"]),
    ],
)  # fmt: skip
def test_untaught_numbers_take_the_official_answers(dataset, kind, texts):
    found = answer_sets([], dataset)[kind]
    assert list(found.texts) == list(found.classes) == texts


@pytest.mark.parametrize("dataset", ["unknown", "FloodNet", "EarthVQA", "VRSBench", "CHOICE"])
@pytest.mark.parametrize("kind", ["count", "area"])
def test_untaught_numbers_without_buckets_have_no_candidates(dataset, kind):
    assert type_named(kind).candidates(dataset) == ()
    assert kind not in answer_sets([], dataset)


def test_untaught_numbers_have_the_buckets_of_their_own_type_alone():
    assert type_named("area").candidates("xBEN") == type_named("area").candidates("HR")
    assert type_named("count").candidates("xBEN") == ()


def test_raw_numbers_are_the_members_of_their_classes():
    found = answer_sets(samples(COUNT, "12", "0", "7", "12", "3", "a few"), "LR")["count"]
    assert found.texts == ("0", "3", "7", "12")
    assert found.classes == ("0", "between 0 and 10", "between 0 and 10", "between 10 and 100")
    assert found.covered == pytest.approx(5 / 6)
    hr = answer_sets(samples(COUNT, "12", "3") + samples(AREA, "0m2", "500m2"), "HR")
    assert hr["count"].classes == ("3", "12")
    assert hr["area"].classes == ("0m2", "between 100m2 and 1000m2")


def test_taught_buckets_are_kept_as_they_are_written():
    found = answer_sets(samples(COUNT, "between 1 and 10", "0", "between 11 and 100"), "LR")
    assert found["count"].texts == ("0", "between 1 and 10", "between 11 and 100")
    assert found["count"].classes == ("0", "between 0 and 10", "between 10 and 100")


def test_the_most_frequent_answers_are_kept():
    """Of five too many: not the last by number, nor by the alphabet, where that does not decide."""
    often = ["1004", "999"]
    numbers = [str(n) for n in range(MAX_CANDIDATES + 5)] + often
    found = answer_sets(samples(COUNT, *numbers), "LR")["count"]
    assert list(found.texts) == [n for n in numbers[: -len(often)] if not "994" <= n <= "998"]
    assert found.covered == (MAX_CANDIDATES + 2) / (MAX_CANDIDATES + 7)


def test_words_are_written_as_they_were_taught_if_both_were():
    question = "Is there a road?"
    assert answer_sets(samples(question, "Yes", "No", "Yes"), "LR")["presence"].texts == (
        "No",
        "Yes",
    )
    assert answer_sets(samples(question, "Yes"), "LR")["presence"].texts == ("no", "yes")
