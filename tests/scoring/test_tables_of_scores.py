"""Tables for the terminal."""

from qwen2vl_rs.questions.class_sets import DatasetName
from qwen2vl_rs.scoring.comparison import compare_runs
from qwen2vl_rs.scoring.results import results
from qwen2vl_rs.scoring.tables import render_comparison, render_results
from qwen2vl_rs.types import Prediction, Sample


def run(said, images=4, start=0):
    found = []
    for i in range(start, images):
        rows = [("Is there a road?", "yes" if i % 2 else "no"), ("How many roads are there?", "3")]
        for k, (question, gold) in enumerate(rows):
            found.append(Prediction(f"{i}-{k}", f"{i}.tif", question, "", gold, said.get(k, gold)))
    return found


TRAIN = [
    Sample("t", "t.tif", "Is there a road?", "no"),
    Sample("u", "t.tif", "How many roads are there?", "40"),
]


def cells(text, label):
    (line,) = [line for line in text.splitlines() if line.startswith(f"{label} ")]
    return line.split()


def test_results_stand_beside_their_controls():
    found = results(
        run({}), train=TRAIN, protocols=["official"], dataset=DatasetName("LR", "setting")
    )
    text = render_results(found)
    assert text.startswith("official (LR): 8 questions, 95 % intervals clustered by image (4)")
    assert cells(text, "presence")[1:] == ["4", "100.0", "39.8", "–", "100.0", "50.0", "50.0"]
    assert cells(text, "OA")[-2:] == ["25.0", "25.0"]
    assert "visual gain: +75.0 points (" in text
    assert "absolute error 0.0 in the mean, 0.0 in the median" in text
    assert "left out: shuffled_image (the model was not asked about other images)" in text


def test_a_partial_control_says_how_many_questions_it_covers():
    whole = results(run({}), shuffled=run({0: "no"}), train=TRAIN, protocols=["official"])
    assert "of these questions" not in render_results(whole)
    part = results(run({}), shuffled=run({0: "no"}, images=2), train=TRAIN, protocols=["official"])
    (line,) = [x for x in render_results(part).splitlines() if x.startswith("shuffled cost")]
    assert line.endswith("over a wrong image, on 4 of these questions")
    seen = results(run({}), train=TRAIN[:1], protocols=["official"])
    (line,) = [x for x in render_results(seen).splitlines() if x.startswith("visual gain")]
    assert line.endswith("over question only, on 4 of these questions")


def test_columns_are_aligned():
    text = render_results(results(run({0: "yes"}), train=TRAIN, protocols=["official"]))
    table = text.splitlines()[2:7]
    assert len({len(line) for line in table}) == 1
    assert all(len(line) <= 100 for line in text.splitlines())


def test_comparisons_show_what_was_fixed_and_broken():
    before, after = run({0: "no"}), run({1: "40"}, images=5)
    text = render_comparison(compare_runs(before, after, protocols=["official"]))
    assert cells(text, "presence")[1:5] == ["4", "50.0", "100.0", "+50.0"]
    assert cells(text, "presence")[-3:] == ["2", "0", "0.500"]
    assert cells(text, "count")[2:5] == ["100.0", "0.0", "-100.0"]
    assert "In one run only: 0 before, 2 after, e.g. 4-0; 4-1" in text


def test_no_change_has_no_sign_of_minus():
    same = run({})
    text = render_comparison(compare_runs(same, same))
    assert "-0.0" not in text
    assert "In one run only" not in text
    assert text.count("1.000") == 3 * 3 + 2
