"""Accuracies, confusions, counts and calibration on small cases worked out by hand."""

import numpy as np
import pytest

from qwen2vl_rs.questions.protocols import PROTOCOLS, judge
from qwen2vl_rs.scoring.metrics import (
    NO_ANSWER,
    OTHERS,
    calibration,
    cluster_codes,
    confusions,
    counting_errors,
    score,
    type_order,
)
from qwen2vl_rs.types import Prediction


def asked(type, gold, said, image=""):
    return Prediction("", image, "q", type, gold, said)


def test_geochat_averages_both_ways():
    """GeoChat's Table 6, RSVQA-LR: printed 90.70, which is the question-weighted figure."""
    right, types = [], []
    for type, n, percent in (
        ("presence", 2955, 91.09),
        ("comp", 4002, 90.33),
        ("rural_urban", 100, 94.00),
    ):
        hits = round(n * percent / 100)
        right += [True] * hits + [False] * (n - hits)
        types += [type] * n
    found = score(np.array(right), types, np.arange(len(types)), np.full(len(types), np.nan))
    assert round(100 * found["OA"], 2) == 90.70
    assert round(100 * found["AA"], 2) == 91.81
    assert list(found["types"]) == ["presence", "comp", "rural_urban"]


def test_types_keep_the_order_of_the_tables():
    names = ["flood", "area", "comp", "presence", "damage", "presence"]
    assert type_order(names) == ["presence", "comp", "area", "damage", "flood"]


def test_clusters_are_images_where_given():
    def codes(*images):
        found, how = cluster_codes([asked("comp", "no", "no", image) for image in images])
        return found.tolist(), how

    assert codes("a", "b", "a") == ([0, 1, 0], "image")
    assert codes("", "", "") == ([0, 1, 2], "question")
    assert codes("a", "", "a", "") == ([0, 1, 0, 2], "image where given")


def test_confusions_show_true_and_predicted_classes_in_order():
    run = [asked("count", gold, said) for gold, said in [("0", "5"), ("0", "none"), ("7", "3")]]
    run += [asked("presence", "yes", "yes"), asked("count", "2000", "0")]
    found = confusions(judge(run, PROTOCOLS["official"], "LR"))
    assert found["presence"] == {"yes": {"yes": 1}}
    assert found["count"] == {
        "0": {"between 0 and 10": 1, NO_ANSWER: 1},
        "between 0 and 10": {"between 0 and 10": 1},
        "more than 1000": {"0": 1},
    }
    assert list(found["count"]) == ["0", "between 0 and 10", "more than 1000"]
    assert list(found["count"]["0"]) == ["between 0 and 10", NO_ANSWER]


def test_rare_classes_are_merged():
    run = [asked("count", str(n % 30), str(n % 30)) for n in range(75)]
    found = confusions(judge(run, PROTOCOLS["official"], "HR"))["count"]
    assert sum(sum(row.values()) for row in found.values()) == 75
    # 0 to 14 are there most often and alike: the alphabet decides, not the order of a set
    kept = sorted(map(str, range(15)))[:12]
    assert list(found) == [*sorted(kept, key=int), OTHERS]


def test_counts_as_numbers():
    run = [asked("count", gold, said) for gold, said in [("3", "5"), ("8", "8"), ("50", "60")]]
    run += [asked("count", "4", "between 0 and 10"), asked("count", "0", "many")]
    run += [asked("presence", "yes", "yes"), asked("count", "unknown", "3")]
    found = counting_errors(run)
    assert found is not None
    assert (found["n"], found["numbers"], found["mae"]) == (5, 3, 4.0)
    assert found["median_error"] == 2.0
    assert (found["exact"], found["bucket"]) == (0.2, 0.8)
    for key in ("exact", "bucket"):
        low, high = found[f"{key}_ci"]
        assert 0 < low < found[key] < high < 1
    inside = found["by_magnitude"]["between 0 and 10"]
    assert inside["bucket"] == 1 > inside["bucket_ci"][0]
    assert list(found["by_magnitude"]) == ["0", "between 0 and 10", "between 10 and 100"]
    assert found["by_magnitude"]["0"]["mae"] is None
    assert found["by_magnitude"]["between 0 and 10"]["mae"] == 1.0
    assert counting_errors([asked("presence", "yes", "yes")]) is None


def test_calibration_by_hand():
    confidence = np.array([0.95, 0.95, 0.55, 1.0])
    found = calibration(confidence, np.array([True, False, False, True]))
    assert [(b["low"], b["n"]) for b in found["curve"]] == [(0.5, 1), (0.9, 3)]
    gap = abs(2.9 / 3 - 2 / 3)
    assert found["ece"] == pytest.approx(0.75 * gap + 0.25 * 0.55)
    # Most confident first: right, then one of a tied pair wrong, then wrong.
    risks = [0, 0.25, 1 / 3, 0.5]
    assert found["aurc"] == pytest.approx(np.mean(risks))
    assert found["risk_coverage"] == pytest.approx(
        np.array([[0.25, 0], [0.5, 0.25], [0.75, 1 / 3], [1, 0.5]])
    )


def test_calibrated_answers_have_a_small_error_and_ties_have_no_order():
    generator = np.random.default_rng(3)
    confidence = generator.random(50_000).round(1)
    right = generator.random(50_000) < confidence
    found = calibration(confidence, right)
    assert found["ece"] < 0.01
    assert len(found["risk_coverage"]) == 100
    mixed = generator.permutation(50_000)
    again = calibration(confidence[mixed], right[mixed])
    assert again["aurc"] == pytest.approx(found["aurc"], abs=1e-12)
    assert calibration(confidence, ~right)["ece"] > 0.3
