"""When a prediction counts as right."""

import pytest

from qwen2vl_rs.errors import ConfigError
from qwen2vl_rs.questions.class_sets import DatasetName, resolve_dataset
from qwen2vl_rs.questions.protocols import PROTOCOLS, class_order, judge, protocol
from qwen2vl_rs.types import Prediction, Sample


def right(name, type, gold, said, dataset="LR", text=""):
    one = Prediction("", "", "q", type, gold, said, text)
    return bool(judge([one], PROTOCOLS[name], dataset).scores.any())


@pytest.mark.parametrize(
    ("dataset", "type", "gold", "said", "want"),
    [
        ("LR", "count", "47", "between 10 and 100", True),
        ("LR", "count", "47", "between 11 and 100", True),
        ("LR", "count", "47", "There are 12 roads.", True),
        ("LR", "count", "47", "101", False),
        ("LR", "count", "0", "between 0 and 10", False),
        ("LR", "count", "between 0 and 10", "7", True),
        ("LR", "count", "5000", "more than 1000", True),
        ("HR", "count", "5", "7", False),
        ("HR", "count", "5", "five", True),
        ("HR", "count", "5", "between 0 and 10", False),
        ("HR", "count", "0", "0m2", False),
        ("HR", "area", "624m2", "700 m²", True),
        ("HR", "area", "624m2", "between 100m2 and 1000m2", True),
        ("HR", "area", "624m2", "between 100 and 1000", False),
        ("HR", "area", "0m2", "between 0m2 and 10m2", False),
        ("unknown", "count", "47", "12", False),
        ("unknown", "count", "47", "47 roads", True),
        ("unknown", "area", "624m2", "700m2", False),
        ("unknown", "area", "624m2", "624 m²", True),
        ("LR", "presence", "no", "There is no road.", True),
        ("LR", "rural_urban", "urban", "no", False),
        ("LR", "rural_urban", "urban", "It is an urban area.", True),
        ("xBEN", "LC", "None", "none", True),
        ("LR", "count", "many", "many", False),
    ],
)
def test_official(dataset, type, gold, said, want):
    assert right("official", type, gold, said, dataset) is want


@pytest.mark.parametrize(
    ("type", "gold", "said", "want"),
    [
        ("count", "47", " 47 ", True),
        ("count", "47", "48", False),
        ("count", "47", "47.", False),
        ("presence", "yes", "Yes", True),
        ("presence", "yes", "Yes.", False),
        ("presence", "yes", "", False),
    ],
)
def test_raw(type, gold, said, want):
    assert right("raw", type, gold, said) is want


@pytest.mark.parametrize(
    ("name", "want"), [("official", True), ("raw", False), ("original", False)]
)
def test_only_a_data_set_s_own_rule_accepts_more_than_equal_answers(name, want):
    assert right(name, "object shape", "oval", "It is oval", "VRSBench") is want
    assert right(name, "object shape", "oval", " Oval", "VRSBench")


@pytest.mark.parametrize(
    ("type", "gold", "said", "want"),
    [
        ("count", "47", "There are 47 roads.", True),
        ("count", "47", "47 or 48", False),
        ("count", "47", "between 10 and 100", False),
        ("count", "0", "between 0 and 10", False),
        ("count", "0", "0m2", False),
        ("count", "1000", "more than 1000", False),
        ("count", "between 10 and 100", "between 10m2 and 100m2", False),
        ("area", "624m2", "624", True),
        ("area", "624m2", "624 square meters", True),
        ("area", "2m2", "624m2", False),
        ("presence", "yes", "Yes.", True),
        ("presence", "no", "No roads.", True),
        ("rural_urban", "urban", "no", False),
        ("rural_urban", "urban", "Urban.", True),
        ("rural_urban", "urban", "It is an urban area.", False),
    ],
)
def test_original(type, gold, said, want):
    assert right("original", type, gold, said) is want


def test_the_words_are_judged_where_words_count():
    for name, want in {"official": True, "raw": False, "original": True}.items():
        assert right(name, "presence", "yes", "yes", text="Yes, there is a road.") is want


def test_geochat_leaves_counts_and_areas_out():
    types = ["count", "presence", "area", "comp"]
    run = [Prediction("", "", "q", type, "yes", "yes") for type in types]
    judged = judge(run, PROTOCOLS["geochat"], "HR")
    assert judged.types == ["presence", "comp"]
    assert judged.index.tolist() == [1, 3]


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("said", ["unknown", "none", "", "yes no", "n", "y", "between", "or 10"])
def test_nonsense_earns_nothing(name, said):
    golds = [("presence", "yes"), ("presence", "no"), ("comp", "no"), ("rural_urban", "urban")]
    golds += [("rural_urban", "rural"), ("count", "0"), ("count", "7"), ("area", "0m2")]
    golds += [("count", "between 0 and 10"), ("area", "between 0m2 and 10m2")]
    for dataset in ("LR", "HR"):
        assert not any(right(name, type, gold, said, dataset) for type, gold in golds)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_constant_bucket_earns_its_own_class_and_no_other(name):
    golds = {"presence": ["yes", "no"], "comp": ["yes", "no"], "rural_urban": ["rural", "urban"]}
    golds |= {"count": ["0", "11", "500", "5000"], "area": ["0m2", "5m2", "50m2"]}
    for type, answers in golds.items():
        assert not any(right(name, type, gold, "between 0 and 10") for gold in answers)
    assert right("official", "count", "7", "between 0 and 10")


def asked(*types, dataset=""):
    return [Sample("", "", "q", "a", type, dataset) for type in types]


def test_whose_classes_apply_is_said_and_not_guessed():
    for types in (["presence", "count"], ["count", "area"], ["presence", "LC"], []):
        assert resolve_dataset(asked(*types)) == DatasetName("unknown", "unknown")
        assert resolve_dataset(asked(*types), "HR") == DatasetName("HR", "setting")
    assert resolve_dataset(asked("count", "comp", dataset="HR")) == DatasetName("HR", "files")
    assert resolve_dataset(asked("count", dataset="HR"), "LR") == DatasetName("LR", "setting")
    mixed = asked("count", dataset="HR") + asked("count", dataset="LR")
    assert resolve_dataset(mixed) == resolve_dataset(mixed + asked("count")) == DatasetName()


def test_what_runs_were_scored_by_before_they_recorded_it():
    told = {("presence", "count", "area"): "HR", ("presence", "LC"): "xBEN", ("count",): "LR"}
    for types, name in told.items():
        assert resolve_dataset(asked(*types), old=True) == DatasetName(name, "inferred")
    assert resolve_dataset(asked("area", dataset="LR"), old=True) == DatasetName("LR", "files")


def test_unknown_protocols_are_errors_that_name_the_nearest():
    with pytest.raises(ConfigError, match="did you mean official") as caught:
        protocol("offical")
    assert "geochat" in (caught.value.hint or "")


def test_classes_stand_in_order():
    buckets = ["0", "between 0 and 10", "between 10 and 100", "between 100 and 1000"]
    ordered = ["no", "yes", *buckets, "more than 1000"]
    assert sorted([*ordered[3:], *ordered[:3]], key=class_order) == ordered
    assert sorted(["10", "9", "100"], key=class_order) == ["9", "10", "100"]
