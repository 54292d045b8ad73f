"""Controls fitted on training questions only, and shuffled images."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory import write_run
from qwen2vl_rs.cli import main
from qwen2vl_rs.errors import DataError
from qwen2vl_rs.questions.protocols import PROTOCOLS
from qwen2vl_rs.scoring import baselines
from qwen2vl_rs.scoring.baselines import (
    Baseline,
    count_training,
    majority_baseline,
    question_only_baseline,
    shuffle_images,
)
from qwen2vl_rs.types import Prediction, Sample

OFFICIAL = PROTOCOLS["official"]


def samples(*rows):
    return [Sample(str(i), f"train{i}", q, a) for i, (q, a) in enumerate(rows)]


ROADS = [("Is there a road?", "yes")] * 3 + [("Is there a road?", "no")]
FARMS = [("Is there a farm?", "no")] * 9


def test_constant_is_the_majority_of_the_type():
    table = majority_baseline(count_training(samples(*ROADS, *FARMS), []), OFFICIAL, "LR")
    assert table.answer("Is there a road?", "presence") == "no"
    assert table.answer("How many roads are there?", "count") is None


def test_constant_lives_in_the_classes_of_the_protocol():
    rows = [("How many roads are there?", n) for n in ("11", "12", "13", "0", "0")]
    counted = count_training(samples(*rows), [])
    assert majority_baseline(counted, OFFICIAL, "LR").answer("", "count") == "between 10 and 100"
    assert majority_baseline(counted, OFFICIAL, "HR").answer("", "count") == "0"
    assert majority_baseline(counted, PROTOCOLS["raw"], "LR").answer("", "count") == "0"
    assert majority_baseline(counted, PROTOCOLS["geochat"], "LR").answer("", "count") is None


@pytest.mark.parametrize(
    ("question", "want"),
    [
        ("Is there a road?", "yes"),
        ("is there a  road in the image", "yes"),
        ("Is a road present?", "yes"),
        ("Is there a small road next to a  farm?", "yes"),
        ("Is there a castle?", "no"),
    ],
)
def test_question_only_backs_off(question, want):
    table = question_only_baseline(count_training(samples(*ROADS, *FARMS), []), OFFICIAL, "LR")
    assert table.answer(question, "presence") == want


def test_a_tie_is_no_majority():
    tied = [("Is there a road?", "yes"), ("Is there a road?", "no")]
    more = [("Is a road present?", "yes"), ("Is a road present?", "yes"), *FARMS]
    table = question_only_baseline(count_training(samples(*tied, *more), []), OFFICIAL, "LR")
    assert table.answer("Is there a road?", "presence") == "yes"
    for rows in (tied, tied[::-1]):
        assert question_only_baseline(count_training(samples(*rows), []), OFFICIAL, "LR").answer(
            "Is there a road?", "presence"
        ) == ("no")


def test_unreadable_training_answers_are_passed_over():
    table = question_only_baseline(
        count_training(samples(("Is there a road?", "perhaps")), []), OFFICIAL, "LR"
    )
    assert table.answer("Is there a road?", "presence") is None


def test_questions_about_scored_images_are_dropped():
    scored = [Prediction("", "train0", "q", "", "yes", "yes")]
    found = count_training(samples(*ROADS), [p.image for p in scored])
    assert (found.n, found.dropped) == (3, 1)


@given(st.lists(st.text(max_size=3), min_size=2, unique=True), st.integers(0, 99))
def test_shuffling_moves_every_image(images, seed):
    shown = shuffle_images(images, seed)
    assert set(shown) == set(shown.values()) == set(images)
    assert all(shown[image] != image for image in images)
    assert shuffle_images([*images[::-1], images[0]], seed) == shown


def test_seeds_differ():
    images = [str(i) for i in range(20)]
    assert len({tuple(shuffle_images(images, seed).items()) for seed in range(10)}) == 10


@pytest.mark.parametrize("images", [[], ["a"], ["a", "a"]])
def test_one_image_cannot_be_shuffled(images):
    with pytest.raises(DataError, match="needs two images"):
        shuffle_images(images, 0)


def test_a_control_of_ones_own_reaches_tables_and_report(monkeypatch, tmp_path, capsys):
    """It is one entry of a list: it is fitted, scored, and shown by its name."""
    mine = Baseline(
        "lookup", "by the first word", "OA by it", "what came before", majority_baseline
    )
    monkeypatch.setattr(baselines, "BASELINES", (*baselines.BASELINES, mine))
    run = write_run(tmp_path, images=4)
    train, after = tmp_path / "data_vl_train.json", run / "eval/after/predictions.jsonl"
    assert main(["score", str(after), "--train-questions", str(train)]) == 0
    assert "by the first word" in capsys.readouterr().out
    words = ["report", "--after", str(after), "--train-questions", str(train)]
    assert main([*words, "-o", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report/report.md").read_text("utf-8")
    assert "lookup" in page
    assert "what came before" in page
    assert main(["report", "--after", str(after), "-o", str(tmp_path / "without")]) == 0
    assert "lookup" in (tmp_path / "without/report.md").read_text("utf-8")  # what is not there
