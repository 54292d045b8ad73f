"""`eval`: free and closed answers of runs, checkpoints and bases, with all controls."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from family import few
from qwen2vl_rs.cli import main
from qwen2vl_rs.datasets.tables import read_conversations, write_conversations
from qwen2vl_rs.predict import session as asking
from qwen2vl_rs.questions.answer_sets import answer_sets

RUN = Path("output/Qwen2-VL-2B")


@pytest.fixture
def here(trained, tmp_path, monkeypatch):
    """A folder with a finished run."""
    folder = shutil.copytree(trained[0], tmp_path / "copy")
    monkeypatch.chdir(folder)
    return folder


def evaluated(capsys, *words):
    assert main(["eval", *map(str, words), "--json"]) == 0, capsys.readouterr().err
    out, err = capsys.readouterr()
    return json.loads(out), err


def predictions(folder):
    lines = (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_a_run_is_asked_its_own_test_questions(here, capsys):
    found, err = evaluated(capsys, RUN)
    assert found["controls"].keys() == {"constant", "question_only", "shuffled_image"}
    assert found["visual_gain"]["official"]["ci"]
    assert found == json.loads((RUN / "eval/test-free/results.json").read_text())
    assert predictions(RUN / "eval/test-free") == predictions(RUN / "eval/after")
    timing = json.loads((RUN / "eval/test-free/timing.json").read_text())
    assert timing["questions"] == 16
    assert timing["seconds"] > 0
    assert "attention: branches (FlexAttention has no backward pass on a CPU)" in err
    again, err = evaluated(capsys, RUN)
    assert again == found
    assert "is up to date" in err
    assert "asking" not in err


def test_killed_after_the_last_answer_it_asks_nothing_and_removes_what_is_left(here, capsys):
    evaluated(capsys, RUN)
    folder = RUN / "eval/test-free"
    before = (folder / "predictions.jsonl").read_text("utf-8")
    key = json.loads((folder / "inputs.json").read_text("utf-8"))["key"]
    (folder / "inputs.json").unlink()
    (folder / "predictions.jsonl").unlink()
    whole = json.dumps({"key": key}) + "\n" + before
    (folder / "predictions.partial-0.jsonl").write_text(whole, "utf-8")
    (folder / ".timing.json.tmp").write_text("{")
    evaluated(capsys, RUN)
    assert (folder / "predictions.jsonl").read_text("utf-8") == before
    (folder / "predictions.partial-0.jsonl").write_text(whole, "utf-8")  # killed a little later
    evaluated(capsys, RUN)
    assert not [path.name for path in folder.iterdir() if "tmp" in path.name or "part" in path.name]


def test_closed_answers_are_classes_with_their_probability(here, capsys):
    found, _ = evaluated(capsys, RUN, "--answers", "closed")
    rows = predictions(RUN / "eval/test-closed")
    sets = answer_sets(read_conversations(Path("data_vl_train.json")), "LR")
    for row in rows:
        candidates = sets[row["type"]]
        assert row["text"] in candidates.texts
        assert 1 / len(candidates.texts) <= row["confidence"] <= 1
    assert found["protocols"]["official"]["n"] == len(rows) == 16


def test_a_base_needs_questions_and_says_which_controls_are_missing(here, small_base, capsys):
    assert main(["eval", str(small_base)]) == 1
    assert "--test FILE" in capsys.readouterr().err
    found, err = evaluated(capsys, small_base, "--test", "data_vl_test.json", "-o", "out")
    assert "--train-questions FILE" in err
    assert found["left_out"]["visual_gain"]
    assert found["controls"].keys() == {"shuffled_image"}
    assert predictions(Path("out")) == predictions(RUN / "eval/before")
    found, _ = evaluated(
        capsys, small_base, "--test", "data_vl_test.json", "--train-questions",
        "data_vl_train.json", "--answers", "closed", "--max-eval", "8",
    )  # fmt: skip
    assert found["n"] == 8  # one image: nothing to shuffle
    assert found["controls"].keys() == {"constant", "question_only"}
    (folder,) = Path("output/eval-base").iterdir()
    assert folder.name.startswith("data_vl_test-")
    assert folder.name.endswith("-closed-first-8")


def test_types_without_an_answer_set_are_written(here, capsys):
    known = list(read_conversations(Path("data_vl_test.json")))
    asked = [replace(s, type="colour" if i % 4 == 0 else s.type) for i, s in enumerate(known)]
    write_conversations(Path("other.json"), asked)
    _, err = evaluated(capsys, RUN, "--test", "other.json", "--answers", "closed")
    assert "no candidates for colour: 4 questions, generated answers" in err
    rows = predictions(*RUN.glob("eval/other-*-closed"))
    free = {row["id"]: row for row in predictions(RUN / "eval/after")}
    assert [row["id"] for row in rows] == [s.id for s in asked]
    assert all(row["text"] == free[row["id"]]["text"] for row in rows if row["type"] == "colour")


def test_a_moved_base_and_a_run_without_checkpoint_are_named(here, capsys):
    card = RUN / "checkpoint-8/qwen2vl_rs.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"base": "/gone"}))
    assert main(["eval", str(RUN / "checkpoint-8")]) == 1
    assert "--base FOLDER" in capsys.readouterr().err
    for checkpoint in RUN.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    assert main(["eval", str(RUN)]) == 1
    assert "no checkpoint in" in capsys.readouterr().err


def test_a_device_without_memory_says_what_to_lower(here, capsys, monkeypatch):
    def full(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")

    monkeypatch.setattr(asking, "answer", full)
    assert main(["eval", str(RUN), "--set", "training.max_tokens_per_pack=300"]) == 1
    assert "--set eval.max_tokens_per_pack=150" in capsys.readouterr().err


def test_an_unknown_protocol_is_named_before_the_model_is_loaded(here, capsys, monkeypatch):
    monkeypatch.setattr(asking, "load_base", None)
    assert main(["eval", str(RUN), "--protocol", "oficial"]) == 1
    assert "did you mean official" in capsys.readouterr().err


def test_one_evaluation_does_not_replace_another(here, capsys):
    for more in ([], ["--max-eval", "8"], ["--answers", "closed"]):
        evaluated(capsys, RUN, *more)
    evaluated(capsys, RUN / "checkpoint-4")
    assert {p.name for p in (RUN / "eval").glob("test-*")} == {
        "test-free", "test-free-first-8", "test-closed", "test-free-checkpoint-4",
    }  # fmt: skip
    assert len(predictions(RUN / "eval/test-free")) == 16


@pytest.mark.parametrize("command", few(["eval", "compare"], 0))
def test_files_of_one_name_do_not_replace_each_other(here, command):
    samples = list(read_conversations(Path("data_vl_test.json")))
    for n, folder in enumerate(("old", "new")):
        write_conversations(Path(folder, "asked.json"), samples[n : n + 1])
        assert main([command, str(RUN), "--test", f"{folder}/asked.json"]) == 0
    first, second = RUN.glob("eval/asked-*")
    below = "after" if command == "compare" else ""
    asked = [row["id"] for one in (first, second) for row in predictions(one / below)]
    assert sorted(asked) == sorted(s.id for s in samples[:2])


def test_answers_without_a_class_leave_the_official_set(here, capsys):
    known = list(read_conversations(Path("data_vl_train.json")))
    write_conversations(
        Path("odd.json"), [replace(s, answer="several") for s in known if s.type == "count"]
    )
    evaluated(capsys, RUN, "--train-questions", "odd.json", "--answers", "closed",
              "--set", "data.dataset=LR")  # fmt: skip
    texts = {r["text"] for r in predictions(RUN / "eval/test-closed") if r["type"] == "count"}
    assert texts <= {"0", "between 0 and 10", "between 10 and 100", "between 100 and 1000",
                     "more than 1000"}  # fmt: skip


def test_other_pictures_of_the_same_names_are_asked_about_anew(here, capsys):
    evaluated(capsys, RUN)
    image = Path(next(read_conversations(Path("data_vl_test.json"))).image)
    kept, times = image.read_bytes(), image.stat()
    try:
        image.write_bytes(image.with_name("3.tif").read_bytes())
        _, err = evaluated(capsys, RUN)
        assert "is up to date" not in err
        image.unlink()
        assert main(["eval", str(RUN)]) == 1
        assert "no such file" in capsys.readouterr().err
    finally:
        image.write_bytes(kept)  # other tests use the same run
        os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_answers_that_are_cut_off_are_counted(here, small_base, capsys):
    evaluated(capsys, small_base, "--test", "data_vl_test.json", "-o", "out",
              "--set", "eval.max_new_tokens=1")  # fmt: skip
    rows = predictions(Path("out"))
    found = json.loads(Path("out/results.json").read_text())["unreadable"]
    assert found["causes"]["cut_off"] == sum(r.get("unreadable") == "cut_off" for r in rows) > 8
    assert main(["eval", str(small_base), "--test", "data_vl_test.json", "-o", "out",
                 "--set", "eval.max_new_tokens=1"]) == 0  # fmt: skip
    assert f"unreadable: {found['n']}, of these cut off: {found['causes']['cut_off']}" in (
        capsys.readouterr().out
    )


def test_training_tells_what_could_not_be_read_before_and_after(here, capsys):
    assert main(["train", str(RUN / "config.toml"), "--resume"]) == 0
    out = capsys.readouterr().out
    before = json.loads((RUN / "eval/before/results.json").read_text())["unreadable"]
    assert before["n"] > 8
    assert f"Before training: unreadable: {before['n']}, of these cut off: " in out
    assert main(["report", str(RUN)]) == 0
    page = (RUN / "report.html").read_text("utf-8")
    assert f"Before: unreadable answers: {before['n']} (cut off: " in page
