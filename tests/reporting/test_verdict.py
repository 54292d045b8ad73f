"""The verdict says what the intervals say, and nothing more."""

import itertools
from pathlib import Path

import pytest

from qwen2vl_rs.reporting.evidence import ReportInputs, Side
from qwen2vl_rs.reporting.i18n import LANGUAGES, Words
from qwen2vl_rs.reporting.verdict import direction, sentence, tiles

UP, LEVEL, DOWN = (0.27, [0.24, 0.3]), (0.01, [-0.02, 0.04]), (-0.223, [-0.25, -0.2])


def evidence(change=None, gain=None, cost=None, run=Path("run"), n=100):
    score = {"OA": 0.582, "OA_ci": [0.55, 0.61], "n": 100, "clusters": 9, "types": {}}
    found = {
        "protocols": {"official": score},
        "visual_gain": {"official": {"n": 100, "OA": gain[0], "ci": gain[1]}} if gain else {},
        "shuffled_cost": {"official": {"n": n, "OA": cost[0], "ci": cost[1]}} if cost else {},
    }
    compared = change and {
        "protocols": {
            "official": {
                "OA": {"before": 0.582 - change[0], "after": 0.582, "difference": change[0],
                       "ci": change[1]}
            }
        }
    }  # fmt: skip
    side = Side(Path("p"), [], found)
    return ReportInputs("x", side, before=side if change else None, comparison=compared, run=run)


def told(*args, language="en", **more):
    return "".join(sentence(evidence(*args, **more), Words(language))).replace("\u00a0", " ")


def test_the_whole_sentence():
    assert told(UP, DOWN, LEVEL) == (
        "Fine-tuning raised OA from 31.2 % to 58.2 % (+27.0 points, 95 % interval +24.0 to +30.0), "
        "but the model does not beat the question-only baseline (−22.3 points), and shuffled "
        "images make no significant difference (+1.0 points): there is no sign that it uses the "
        "image."
    )
    assert told(UP, UP, UP).endswith(
        ", and the model beats the question-only baseline (+27.0 points), and shuffled images "
        "cost it 27.0 points: it uses the image."
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (UP, "Fine-tuning raised OA from 31.2 % to 58.2 %"),
        (DOWN, "Fine-tuning lowered OA from 80.5 % to 58.2 %"),
        (LEVEL, "which is not significant"),
        (None, "The model reaches an OA of 58.2 % (95 % interval 55.0 – 61.0)"),
    ],
)
def test_the_change(change, said):
    assert said in told(change)
    assert told(change).endswith("whether it uses the image was not measured.")
    assert "Fine-tuning" not in told(change, run=None)


@pytest.mark.parametrize(
    ("gain", "cost", "ends"),
    [
        (UP, UP, "it uses the image."),
        (LEVEL, UP, "than the wording of the questions reveals."),
        (DOWN, UP, "than the wording of the questions reveals."),
        (None, UP, ": it uses the image."),
        (UP, LEVEL, "there is no sign that it uses the image."),
        (DOWN, DOWN, "it uses the image, but is misled by it."),
        (UP, DOWN, "it uses the image, but is misled by it."),
        (None, LEVEL, "there is no sign that it uses the image."),
        (UP, None, "it knows more than the wording of the questions reveals."),
        (LEVEL, None, "there is no sign that it uses the image."),
        (DOWN, None, "there is no sign that it uses the image."),
    ],
)
def test_what_follows(gain, cost, ends):
    assert told(UP, gain, cost).endswith(ends)


def test_a_wrong_image_that_helps():
    text = told(UP, UP, DOWN)
    assert ", yet with shuffled images it is even better (by 22.3 points):" in text
    assert tiles(evidence(UP, UP, DOWN), Words("en"))[3].word == "better with shuffled images"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_case_has_a_sentence_of_its_own(language):
    sides = (UP, LEVEL, DOWN, None)
    all_told = {told(*case, language=language) for case in itertools.product(sides, sides, sides)}
    assert len(all_told) == 64
    assert all(text[-1] in ".。" for text in all_told)


def test_an_interval_that_touches_zero_is_no_change():
    assert [direction(ci) for ci in ([0, 1], [-1, 0], [0.01, 1], [-1, -0.01])] == [
        "level", "level", "up", "down",
    ]  # fmt: skip


def test_tiles():
    shown = tiles(evidence(UP, DOWN), Words("en"))
    assert [tile.tone for tile in shown] == ["flat", "good", "bad", "flat"]
    assert shown[0].value.startswith("31.2 → 58.2")
    assert shown[0].sub == "55.0 – 61.0 → 55.0 – 61.0"
    assert shown[3].word == "not measured"
    assert shown[3].chart is None


def test_a_control_on_fewer_questions_says_so():
    part = [t.sub for t in tiles(evidence(UP, DOWN, UP, n=40), Words("en"))]
    assert part[3] == "+24.0 to +30.0; 40 of 100 questions"
    whole = [t.sub for t in tiles(evidence(UP, DOWN, UP), Words("en"))]
    assert whole == [*part[:3], "+24.0 to +30.0"]
