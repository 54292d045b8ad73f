"""Which checkpoint is the best, and when patience ends training."""

import json

import pytest

from qwen2vl_rs.errors import RunError
from qwen2vl_rs.run import Run
from qwen2vl_rs.system.files import write_json
from qwen2vl_rs.validation_record import VALIDATION, next_record, read_record, write_record


def records(metric, values):
    found, last = [], None
    for step, value in enumerate(values, 1):
        last = next_record(last, step, metric, {"OA": 0.5, "AA": 0.5, "loss": 1.0, metric: value})
        found.append(last)
    return found


@pytest.mark.parametrize(
    ("metric", "values", "best", "since"),
    [
        ("OA", [0.5, 0.7, 0.6, 0.7], [1, 2, 2, 2], [0, 0, 1, 2]),  # the first of equal ones
        ("AA", [0.5, 0.4, 0.6], [1, 1, 3], [0, 1, 0]),
        ("loss", [2.0, 3.0, 1.0, 1.0], [1, 1, 3, 3], [0, 1, 0, 1]),  # lower is better
    ],
)
def test_the_best_and_the_validations_since(metric, values, best, since):
    found = records(metric, values)
    assert [one.best_step for one in found] == best
    assert [one.since_best for one in found] == since
    assert [one.count for one in found] == list(range(1, len(values) + 1))
    assert [one.is_best for one in found] == [k == b for k, b in enumerate(best, 1)]


def test_patience_counts_validations_without_a_better_one():
    found = records("OA", [0.5, 0.4, 0.3])
    assert [one.stops(2) for one in found] == [False, False, True]
    assert not any(one.stops(None) for one in found)


def test_a_record_is_kept_with_its_checkpoint(tmp_path):
    (first, second) = records("OA", [0.25, 1.0])
    for step, record in ((1, first), (2, second)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        write_record(tmp_path / f"checkpoint-{step}", record)
    assert read_record(tmp_path / "checkpoint-1") == first
    assert Run(tmp_path).validation() == second
    assert read_record(tmp_path) is None


@pytest.mark.parametrize(
    "change",
    [{"best_step": "1"}, {"metric": "f1"}, {"scores": None}, {"extra": 1}, {"best_value": None}],
)
def test_a_damaged_record_is_not_taken_for_none(tmp_path, change):
    write_record(tmp_path, records("OA", [0.5])[0])
    known = json.loads((tmp_path / VALIDATION).read_text())
    write_json(tmp_path / VALIDATION, {**known, **change})
    with pytest.raises(RunError, match="is damaged"):
        read_record(tmp_path)


def run_of(folder, values, gone=()):
    for step, record in enumerate(records("OA", values), 1):
        if step not in gone:
            (folder / f"checkpoint-{step}").mkdir()
            write_record(folder / f"checkpoint-{step}", record)
    return Run(folder)


def test_a_checkpoint_is_chosen_by_name(tmp_path, capsys):
    run = run_of(tmp_path, [0.5, 0.7, 0.6])
    assert run.choose_checkpoint().name == "checkpoint-2"
    assert "checkpoint-2, best of 3 by validation OA" in capsys.readouterr().err
    for which, step in (
        ("best", 2),
        ("last", 3),
        ("checkpoint-1", 1),
        (tmp_path / "checkpoint-3", 3),
    ):
        assert run.choose_checkpoint(which).name == f"checkpoint-{step}"
    assert run.is_default(tmp_path / "checkpoint-2")
    assert not run.is_default(tmp_path / "checkpoint-3")
    (tmp_path / "other/checkpoint-2").mkdir(parents=True)
    assert not run.is_default(tmp_path / "other/checkpoint-2")
    with pytest.raises(RunError, match="has no checkpoint checkpoint-9") as caught:
        run.choose_checkpoint("checkpoint-9")
    assert "best, last, checkpoint-1, checkpoint-2, checkpoint-3" in caught.value.hint


def test_a_best_checkpoint_that_is_gone_is_missed(tmp_path):
    run = run_of(tmp_path, [0.5, 0.7, 0.6], gone=(2,))
    with pytest.raises(
        RunError, match="checkpoint-2, best of 3 by validation OA, is missing"
    ) as no:
        run.choose_checkpoint()
    assert "--checkpoint last" in no.value.hint
    assert run.choose_checkpoint("last").name == "checkpoint-3"


def test_without_validation_the_newest_is_used_and_none_is_the_best(tmp_path, capsys):
    for step in (1, 2):
        (tmp_path / f"checkpoint-{step}").mkdir()
    run = Run(tmp_path)
    assert run.choose_checkpoint().name == run.choose_checkpoint("last").name == "checkpoint-2"
    assert capsys.readouterr().err == ""
    with pytest.raises(RunError, match="no validation questions"):
        run.choose_checkpoint("best")
