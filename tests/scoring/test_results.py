"""From predictions to ``results.json``."""

import json
import random
import time
from dataclasses import replace

import pytest

from qwen2vl_rs.errors import ConfigError, DataError
from qwen2vl_rs.questions.class_sets import resolve_dataset
from qwen2vl_rs.questions.grammar import question_type
from qwen2vl_rs.scoring.comparison import compare_runs
from qwen2vl_rs.scoring.results import UNKNOWN_TYPE, results
from qwen2vl_rs.scoring.tables import render_results
from qwen2vl_rs.types import Prediction, Sample

NOUNS = ["road", "building", "water area", "forest", "farm", "park"]


def world(images, seed=0, prefix="test"):
    """Questions with answers that depend on the image, and somewhat on the wording."""
    chance = random.Random(seed)
    found = []
    for i in range(images):
        numbers = {noun: chance.choice([0, 0, 3, 40, 400]) + k for k, noun in enumerate(NOUNS)}
        rows = [("Is it a rural or an urban area", chance.choice(["rural", "urban"]))]
        for noun, n in numbers.items():
            other = chance.choice(NOUNS)
            rows.append((f"Is there a {noun}?", "yes" if n else "no"))
            rows.append((f"How many {noun}s are there?", str(n)))
            more = "yes" if n > numbers[other] else "no"
            rows.append((f"Are there more {noun}s than {other}s?", more))
        found += [
            Sample(f"{prefix}{i}_{k}", f"{prefix}{i}.tif", q, a) for k, (q, a) in enumerate(rows)
        ]
    return found


def answered(samples, said=lambda s: s.answer, **more):
    return [
        Prediction(s.id, s.image, s.question, s.type, s.answer, said(s), **more) for s in samples
    ]


def test_the_shape_of_results():
    test, train = world(8), world(20, 1, "train")
    found = results(answered(test), train=train, shuffled=answered(test, lambda s: "no"))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["n"], found["dataset"], found["clustered_by"]) == (152, "unknown", "image")
    assert list(found["protocols"]) == ["official", "geochat", "raw", "original"]
    for name, score in found["protocols"].items():
        assert {"n", "OA", "AA", "OA_se", "OA_ci", "AA_ci", "clusters", "types"} <= score.keys()
        assert score["OA"] == score["AA"] == 1
        for one in score["types"].values():
            assert {"n", "accuracy", "se", "ci", "confusion"} == one.keys()
        assert sum(t["n"] for t in score["types"].values()) == score["n"]
        for control in ("constant", "question_only", "shuffled_image"):
            assert {"OA", "AA", "types"} <= found["controls"][control][name].keys()
        blind = found["controls"]["question_only"][name]["OA"]
        gain = found["visual_gain"][name]
        assert gain["OA"] == pytest.approx(1 - blind)
        assert gain["ci"][0] < gain["OA"] < gain["ci"][1]
        lost = found["controls"]["shuffled_image"][name]["OA"]
        assert found["shuffled_cost"][name]["OA"] == pytest.approx(1 - lost)
    assert found["protocols"]["geochat"]["n"] == 8 * 13
    assert found["left_out"] == {"calibration": "the predictions carry no confidence"}
    assert found["counts"]["mae"] == 0


def test_what_cannot_be_computed_is_named():
    found = results(answered(world(3)))
    assert found["controls"] == found["visual_gain"] == {}
    assert found["left_out"].keys() == {
        *("constant", "question_only", "visual_gain", "calibration"),
        *("shuffled_image", "shuffled_cost"),
    }
    counts_only = [p for p in answered(world(3)) if p.question.startswith("How many")]
    assert "geochat" in results(counts_only)["left_out"]


def test_what_a_wrong_image_costs():
    test = world(8)
    own = answered(test)
    wrong = [replace(p, image="shown.tif", prediction="none") for p in own[: len(own) // 2]]
    found = results(own, shuffled=random.Random(1).sample(wrong, len(wrong)))
    assert found["shuffled_cost"]["official"]["OA"] == 1  # on the questions asked both ways
    assert found["controls"]["shuffled_image"]["official"]["n"] == len(wrong)
    assert found["shuffled_cost"]["official"]["n"] == len(wrong) < len(own)
    same = results(own, shuffled=own)["shuffled_cost"]["official"]
    assert same["OA"] == 0
    assert same["ci"][0] < 0 < same["ci"][1]
    with pytest.raises(DataError, match="no question in common"):
        results(own, shuffled=[replace(p, id="", image=f"x{p.image}") for p in own])


def test_training_on_the_scored_images_is_no_control():
    test = world(3)
    found = results(answered(test), train=test)
    assert found["train"] == {"n": 0, "dropped": len(test)}
    assert "about an image that is scored" in found["left_out"]["question_only"]


@pytest.mark.parametrize("path", ["{}", "Images_LR/{}", "./data/Images_LR/{}", "C:\\d\\{}"])
def test_scored_images_are_known_by_part_of_their_path(path):
    test = world(3)
    run = [replace(p, image=path.format(p.image.rpartition("/")[2])) for p in answered(test)]
    deep = [replace(s, image=f"data/Images_LR/{s.image.rpartition('/')[2]}") for s in test]
    if not path.startswith("C:"):
        assert results(run, train=deep)["train"] == {"n": 0, "dropped": len(test)}
    named = [replace(s, image=s.image.rpartition("/")[2]) for s in test]
    assert results(run, train=named)["train"] == {"n": 0, "dropped": len(test)}
    others = [replace(s, image=f"more-{s.image.rpartition('/')[2]}") for s in test]
    assert results(run, train=others)["train"] == {"n": len(test), "dropped": 0}


def test_types_without_training_questions_are_left_out_of_the_gain():
    test, train = world(8), world(20, 1, "train")
    known = [s for s in train if question_type(s.question) == "presence"]
    found = results(answered(test), train=known)
    asked = [s for s in test if question_type(s.question) == "presence"]
    assert found["controls"]["question_only"]["official"]["n"] == len(asked)
    only = results(answered(asked), train=known)
    assert found["visual_gain"] == only["visual_gain"]
    for type in ("comp", "count"):
        assert found["left_out"][f"controls of {type}"] == UNKNOWN_TYPE
    assert "controls of presence" not in found["left_out"]


def test_a_constant_model_scores_like_the_constant_control():
    test, train = world(8), world(20, 1, "train")
    found = results(answered(test, lambda s: "no"), train=train, protocols=["geochat"])
    assert list(found["protocols"]) == ["geochat"]
    assert found["visual_gain"]["geochat"]["OA"] < 0
    asked = [s.answer for s in train if s.question.startswith("Are there more")]
    assert asked.count("no") > asked.count("yes")
    constant = found["controls"]["constant"]["geochat"]["types"]["comp"]
    assert constant["accuracy"] == found["protocols"]["geochat"]["types"]["comp"]["accuracy"]


def test_order_and_stored_types_do_not_matter():
    run = answered(world(8), lambda s: "yes", confidence=0.5)
    run = [replace(p, confidence=(i % 7) / 7) for i, p in enumerate(run)]
    mixed = random.Random(2).sample(run, len(run))
    mixed = [replace(p, type="") for p in mixed]
    one, two = results(run)["protocols"]["official"], results(mixed)["protocols"]["official"]
    for key in ("OA", "AA", "OA_se", "OA_ci", "AA_ci"):
        assert one[key] == pytest.approx(two[key], abs=1e-12)
    assert one["calibration"]["aurc"] == pytest.approx(two["calibration"]["aurc"], abs=1e-12)


def test_calibration_uses_the_questions_with_a_confidence():
    run = answered(world(2))
    run = [replace(p, confidence=0.75 if i % 2 else None) for i, p in enumerate(run)]
    found = results(run)["protocols"]["official"]["calibration"]
    assert found["n"] == len(run) // 2
    assert found["ece"] == pytest.approx(0.25)


def test_hr_counts_are_exact():
    run = [Prediction("", "a", "How many roads are there?", "", "5", "7")]
    area = [Prediction("", "a", "What is the area covered by roads?", "", "624m2", "700m2")]
    assert results(run)["protocols"]["official"]["OA"] == 0  # nobody says that they are LR's
    for name, want in (("LR", 1), ("HR", 0)):
        known = [replace(p, dataset=name) for p in run]
        given = results(run, dataset=resolve_dataset(run, name))
        for found, how in ((results(known), "files"), (given, "setting")):
            assert (found["dataset"], found["dataset_from"]) == (name, how)
            assert found["protocols"]["official"]["OA"] == want
    both = results([replace(p, dataset="HR") for p in run + area])
    assert both["protocols"]["official"]["OA"] == 0.5
    assert results(run + area)["protocols"]["official"]["OA"] == 0


def test_unreadable_true_answers_are_counted():
    run = [Prediction("", "", "Is there a road?", "", gold, "yes") for gold in ("yes", "perhaps")]
    found = results(run)
    assert found["unreadable_truth"] == 1
    assert found["unreadable"] == {"n": 0, "causes": {}}
    assert found["clustered_by"] == "question"
    assert found["protocols"]["official"]["OA"] == 0.5


def test_answers_that_cannot_be_read_are_counted_by_cause():
    said = {
        "yes": None, "Yes.": None, "no": None,  # wrong, but read
        "<think>no road?</think>yes": None, "<answer>yes</answer>": None,
        "": "empty", "<think>is it": "no_answer", "<think></think>\n": "no_answer",
        "I cannot tell": "unclear", "<answer>yes</answer> <answer>no</answer>": "unclear",
    }  # fmt: skip
    run = [Prediction("", "", "Is there a road?", "", "yes", text, text) for text in said]
    run.append(Prediction("", "", "Is there a road?", "", "yes", "", "It", unreadable="cut_off"))
    found = results(run)
    causes = {"cut_off": 1, "empty": 1, "no_answer": 2, "unclear": 2}
    assert found["unreadable"] == {"n": 6, "causes": causes}
    line = "unreadable: 6, of these cut off: 1, empty: 1, reasoning without an answer: 2"
    assert line in render_results(found)
    for name in ("official", "raw"):
        right = {"official": 4, "raw": 3}[name]  # "Yes." is another string
        assert found["protocols"][name]["OA"] == pytest.approx(right / 11)


@pytest.mark.parametrize(
    ("question", "right", "wrong"),
    [
        ("How many roads are there?", "12", "1"),
        ("What is the area covered by roads?", "624m2", "62m2"),
        ("What is it used for?", "a park", "a par"),
    ],
)
def test_an_answer_that_was_cut_off_is_unreadable_where_it_is_wrong(question, right, wrong):
    def cut(said):
        return Prediction("", "", question, "", right, said, said, unreadable="cut_off")

    found = results([cut(right), cut(wrong)])
    assert found["unreadable"] == {"n": 1, "causes": {"cut_off": 1}}
    assert found["protocols"]["official"]["OA"] == 0.5


def test_errors():
    with pytest.raises(DataError, match="no predictions"):
        results([])
    with pytest.raises(ConfigError, match="did you mean geochat"):
        results(answered(world(1)), protocols=["geo-chat"])


@pytest.mark.slow
def test_ten_thousand_predictions_in_three_seconds():
    test, train = world(530), world(530, 1, "train")
    before = answered(test, lambda s: f"There are {len(s.question)} of {s.id}", confidence=0.3)
    after = answered(test, lambda s: s.answer, confidence=0.9)
    assert len(test) > 10_000
    start = time.process_time()
    results(after, train=train, shuffled=before)
    compare_runs(before, after)
    assert time.process_time() - start < 3


def test_baselines_are_scored_by_the_rule_of_the_protocol():
    kind, asked = "object color", "What is the color of the car?"
    train = [Sample(f"t{i}", f"t{i}.png", asked, "dark red", kind, "VRSBench") for i in range(4)]
    run = [
        Prediction(f"p{i}", f"p{i}.png", asked, kind, "red", "red", dataset="VRSBench")
        for i in range(4)
    ]
    found = results(run, train=train, dataset=resolve_dataset(run, "VRSBench"))
    assert found["controls"]["constant"]["official"]["OA"] == 1  # "dark red" contains "red"
    assert found["controls"]["constant"]["raw"]["OA"] == 0
    assert found["visual_gain"]["raw"]["OA"] == 1
