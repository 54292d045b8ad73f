"""What a report is made from."""

import json
import shutil

import pytest

from factory import write_run
from qwen2vl_rs.errors import DataError, RunError
from qwen2vl_rs.report.evidence import from_files, from_run


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path)


def test_a_run_as_it_was_scored(run):
    found = from_run(run)
    assert (found.name, found.checkpoint) == ("small", "checkpoint-40")
    assert found.after.pace == 0.125 / 8
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
    (tmp_path / "data_vl_train.json").write_text("[]")  # another one by now
    assert "question_only" in from_run(run).after.results["left_out"]


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
    assert [p.id for p in part.both[0]] == [p.id for p in part.after.predictions[3:]]
    with pytest.raises(DataError, match="cannot read"):
        from_files(tmp_path / "nothing.jsonl")
