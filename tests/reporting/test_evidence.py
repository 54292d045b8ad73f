"""What a report is made from."""

import json
import shutil
from dataclasses import replace

import pytest

from factory import write_run
from qwen2vl_rs.errors import DataError, RunError
from qwen2vl_rs.reporting.evidence import from_files, from_run
from qwen2vl_rs.scoring.pairs import pairs
from qwen2vl_rs.scoring.predictions import read_predictions, write_predictions


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path)


def test_a_run_as_it_was_scored(run):
    found = from_run(run)
    assert (found.name, found.checkpoint) == ("small", "checkpoint-40")
    assert found.after.seconds == 0.125 / 8
    assert found.after.results == json.loads((run / "eval/after/results.json").read_text())
    assert found.comparison["protocols"]["official"]["OA"]["wins"] > 0
    assert len(found.metrics) == 40
    assert found.config.output == str(run)


def test_training_questions_can_be_given(run, tmp_path):
    train = tmp_path / "other.jsonl"
    train.write_text('{"question": "Is there a road?", "answer": "yes"}\n')
    found = from_run(run, train)
    assert found.after.results["train"] == {"n": 1, "dropped": 0}
    assert found.before.results["train"]["n"] == 1


def test_results_that_are_missing_are_computed_with_the_run_s_own_questions(
    run, tmp_path, monkeypatch
):
    stored = json.loads((run / "eval/after/results.json").read_text())
    (run / "eval/after/results.json").unlink()
    monkeypatch.chdir(tmp_path)
    assert from_run(run).after.results == stored
    (run / "data").mkdir()
    shutil.copy(tmp_path / "data_vl_train.json", run / "data" / "train.json")
    (tmp_path / "data_vl_train.json").write_text("[]")  # another one by now
    assert from_run(run).after.results == stored
    shutil.rmtree(run / "data")  # as in runs that kept no copies
    assert "question_only" in from_run(run).after.results["left_out"]


def test_stored_results_of_other_classes_are_not_believed(run):
    file = run / "eval/after/results.json"
    stored = json.loads(file.read_text())
    assert stored["dataset"] == "LR"
    found = from_run(run, dataset="HR").after.results
    assert found["dataset"] == "HR"
    classes = found["protocols"]["official"]["types"]["count"]["confusion"]
    assert classes != stored["protocols"]["official"]["types"]["count"]["confusion"]
    file.write_text(json.dumps({**stored, "n": stored["n"] - 1}))  # nor those of fewer questions
    assert from_run(run).after.results["n"] == stored["n"]


def test_an_unfinished_run(run):
    shutil.rmtree(run / "eval" / "before")
    for name in ("compare.json", "manifest.json", "metrics.jsonl", "train_results.json"):
        (run / name).unlink()
    found = from_run(run)
    assert found.before is found.comparison is found.both is None
    assert (found.checkpoint, found.manifest, found.metrics) == ("", {}, [])
    shutil.rmtree(run / "eval" / "after")
    with pytest.raises(RunError, match="no answers after training") as caught:
        from_run(run)
    assert "--resume" in caught.value.hint
    with pytest.raises(RunError, match="no run folder"):
        from_run(run / "nothing")


def test_what_is_no_run_gets_a_hint_that_helps(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = run / "eval/after/predictions.jsonl"
    for place, said, hint in (
        (file, "is a file", f"qwen2vl-rs report --after {file}"),
        (tmp_path, "is not the folder of a run", f"runs with answers: {run}"),
        (tmp_path / "output/big", "no run folder", "runs with answers: output/small"),
    ):
        with pytest.raises(RunError, match=said) as caught:
            from_run(place)
        assert hint in caught.value.hint
    shutil.rmtree(tmp_path / "output")
    with pytest.raises(RunError, match="no run folder") as caught:
        from_run(run)
    assert caught.value.hint == "train first: qwen2vl-rs train"


def test_only_questions_of_both_runs_are_scored(run, tmp_path):
    """Three stand before only, five after only: with them goes the only question of a type."""
    before, after, shuffled = (
        read_predictions(run / "eval" / name / "predictions.jsonl")
        for name in ("before", "after", "shuffled")
    )
    alone = replace(after[0], id="alone", question="What is this?", type="odd", answer="a lake")
    write_predictions(run / "eval/before/predictions.jsonl", before[5:])
    write_predictions(run / "eval/after/predictions.jsonl", [*after[:-3], alone])
    found = from_run(run)
    assert found.comparison["unmatched"] | {"examples": None} == {
        "before": 3, "after": 6, "examples": None,
    }  # fmt: skip
    n = len(before) - 3 - 5
    assert found.comparison["n"] == found.after.results["n"] == found.before.results["n"] == n
    for name, change in found.comparison["protocols"].items():
        for side, results in (("before", found.before.results), ("after", found.after.results)):
            score = results["protocols"][name]
            assert "odd" not in score["types"]
            assert change["OA"][side] == pytest.approx(score["OA"])
            assert change["AA"][side] == pytest.approx(score["AA"])
            assert {t: c["n"] for t, c in change["types"].items()} == {
                t: c["n"] for t, c in score["types"].items()
            }
    assert found.after.results["shuffled_cost"]["official"]["n"] == n
    assert len(shuffled) > n
    # one run alone is scored whole
    assert from_files(run / "eval/after/predictions.jsonl").after.results["n"] == len(after) - 2


def test_the_data_set_can_be_said(run):
    """A number that is near is in the bucket of LR, and wrong in HR."""
    files = [run / "eval" / name / "predictions.jsonl" for name in ("after", "before")]
    near = [replace(p, prediction="24") for p in read_predictions(files[0]) if p.answer == "21"]
    write_predictions(files[0], near)
    write_predictions(files[1], [replace(p, prediction="no") for p in near])
    for dataset, right in (("LR", 1.0), ("HR", 0.0)):
        for found in (from_files(*files, dataset=dataset), from_run(run, dataset=dataset)):
            assert found.after.results["dataset"] == found.comparison["dataset"] == dataset
            assert found.before.results["dataset"] == dataset
            assert found.after.results["protocols"]["official"]["OA"] == right
            assert found.comparison["protocols"]["official"]["OA"]["after"] == right
            rows = pairs(*found.both, found.after.results["dataset"])
            assert all(row.after_right is (right == 1) for row in rows)


def test_results_of_an_older_form_are_computed_anew(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = run / "eval/after/results.json"
    stored = json.loads(file.read_text())
    for gain in stored["shuffled_cost"].values():
        del gain["n"]
    file.write_text(json.dumps(stored))
    assert from_run(run).after.results["shuffled_cost"]["official"]["n"] == 48


def test_predictions_of_any_model(run, tmp_path):
    files = {name: run / "eval" / name / "predictions.jsonl" for name in ("before", "after")}
    found = from_files(files["after"], files["before"], files["before"])
    assert found.name == "after/predictions.jsonl"
    assert found.run is None
    assert found.after.results["shuffled_cost"]["official"]["OA"] > 0
    assert [p.id for p in found.both[0]] == [p.id for p in found.both[1]]
    lines = files["before"].read_text().splitlines()
    (tmp_path / "part.jsonl").write_text("\n".join(reversed(lines[3:])) + "\n")
    part = from_files(files["after"], tmp_path / "part.jsonl")
    assert [p.id for p in part.both[0]] == [p.id for p in found.after.predictions[3:]]
    with pytest.raises(DataError, match="cannot read"):
        from_files(tmp_path / "nothing.jsonl")
