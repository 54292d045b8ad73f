"""Whose classes apply: from the files to the figures, said everywhere and guessed nowhere."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from factory import make_samples, write_rsvqa
from family import few
from qwen2vl_rs.cli import main
from qwen2vl_rs.cli.demo import STEPS
from qwen2vl_rs.datasets.reading import read_samples
from qwen2vl_rs.datasets.tables import write_conversations

RUN = Path("output/Qwen2-VL-2B")
EXACT = "the data set is unknown: counts and areas are compared exactly"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run_here(trained, here, monkeypatch):
    """A folder with a finished run."""
    monkeypatch.chdir(shutil.copytree(trained[0], here / "copy"))
    return RUN


def run(*words):
    assert main([*map(str, words)]) == 0


def read(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def datasets(path):
    return {s.dataset for s in read_samples(Path(path))}


def describe(folder, prefix, **image):
    """Give the images of a made-up folder what the official lists say of theirs."""
    path = next(folder.glob("*images.json"))
    images = [{**record, **image} for record in read(path)["images"]]
    path.write_text(json.dumps({"images": [{"id": 0, "active": False}, *images]}))


@pytest.mark.parametrize(
    ("prefix", "image", "name"),
    [
        ("LR_split_train_", {}, "LR"), ("all_", {}, "LR"), ("LRBEN", {}, "xBEN"),
        ("USGS_split_test_phili_", {}, "HR"), ("USGS", {}, "HR"),
        ("RSVQAxBEN_split_val_", {}, "xBEN"), ("rsvqa_", {}, ""),
        ("rsvqa_", {"sensor": "ULTRACAM_EAGLE_FALCON"}, "HR"),
        ("all_", {"sensor": "ULTRACAM_EAGLE_FALCON"}, "HR"),
        ("rsvqa_", {"sensor": "S2", "original_name": "S2A_MSIL1C_20160720_8192-3072.tif"}, "LR"),
        ("", {"sensor": "S2", "original_name": "S2B_MSIL2A_20170709T094029_0_26.tif"}, "xBEN"),
        ("rsvqa_", {"sensor": "drone"}, ""),
    ],
)  # fmt: skip
def test_the_files_say_it_from_the_official_lists_to_the_conversations(prefix, image, name):
    folder = write_rsvqa(Path("data"), images=2, side=28, prefix=prefix)
    describe(folder, prefix, **image)
    (questions,) = folder.glob("*questions.json")
    assert datasets(questions) == {name}
    run("data2csv", "--folder", folder, "-o", "t.csv")
    assert Path("t.csv").read_text().startswith("image_path,question,answer\n")
    run("csv2json", "-i", "t.csv", "-o", "c.json")
    assert datasets("t.csv") == datasets("c.json") == {name}
    assert {record.get("dataset", "") for record in read("c.json")} == {name}


def test_a_note_is_that_of_its_table_alone(capsys):
    run("data2csv", "--folder", write_rsvqa(Path("data"), images=2, side=28, prefix="USGS"))
    table = Path("rsvqa-dataset.csv")
    assert datasets(table) == {"HR"}
    assert read("rsvqa-dataset.csv.json")["dataset"] == "HR"
    table.write_text(table.read_text().rpartition("\n/")[0] + "\n")
    capsys.readouterr()
    assert datasets(table) == {""}
    assert "rsvqa-dataset.csv.json is ignored: rsvqa-dataset.csv" in (capsys.readouterr().err)
    run("data2csv", "--folder", write_rsvqa(Path("other"), images=2, side=28))
    assert datasets(table) == {""}  # and nothing of the last one is left
    for text in ("[]", "{", '{"sha256": 1, "dataset": "HR"}'):
        Path("rsvqa-dataset.csv.json").write_text(text)
        assert datasets(table) == {""}


def test_other_programs_may_mean_something_else_by_the_word():
    run("data2csv", "--folder", write_rsvqa(Path("data"), images=2, side=28))
    run("csv2json")
    records = read("data_vl.json")
    known = {"RSVQA-LR": "LR", "hr": "HR", "rsvqa_xben": "xBEN", "RSVQAxBEN": "xBEN"}
    for value in ("DOTA", "", ["x"], {"a": 1}, None, *known):
        Path("c.json").write_text(json.dumps([{**r, "dataset": value} for r in records]))
        assert datasets("c.json") == {known.get(value, "") if isinstance(value, str) else ""}


def lines(path, *pairs, **more):
    rows = [{"question": q, "answer": a, "prediction": p, **more} for q, a, p in pairs]
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("said", "oa"), few([({}, 0), ({"dataset": "HR"}, 0), ({"dataset": "LR"}, 1)], 0, 2)
)
def test_counts_of_hr_are_not_scored_in_lr_s_buckets(capsys, said, oa):
    lines("p.jsonl", *[("How many roads are there?", str(n), str(n + 1)) for n in range(1, 9)],
          **said)  # fmt: skip
    run("score", "p.jsonl", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["dataset"] == said.get("dataset", "unknown")
    assert found["protocols"]["official"]["OA"] == oa
    run("score", "p.jsonl")
    assert (EXACT in capsys.readouterr().out) == (not said)
    for language, words in (("en", "The data set is unknown"), ("zh", "数据集未知")):
        run("report", "--after", "p.jsonl", "--lang", language, "-o", language)
        page = Path(language, "report.html").read_text("utf-8")
        assert (words in page) == (not said)
    run("report", "--after", "p.jsonl", "--dataset", "HR")
    assert "RSVQA-HR classes" in Path("report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("n", "name", "how", "told"),
    [
        (8, "HR", "setting", ("HR", "setting")),
        (8, "HR", "files", ("HR", "files")),
        (8, "HR", None, ("HR", "inferred")),  # as versions wrote that did not say how
        (7, "HR", "setting", ("unknown", "unknown")),  # of other predictions
        (9, "HR", "setting", ("unknown", "unknown")),
        (None, "HR", "setting", ("unknown", "unknown")),
        (8, "DOTA", "setting", ("unknown", "unknown")),
        (8, "HR", "hearsay", ("unknown", "unknown")),
        (8, "unknown", "unknown", ("unknown", "unknown")),
    ],
)
def test_only_the_results_of_as_many_predictions_say_how_they_were_scored(
    capsys, n, name, how, told
):
    lines("predictions.jsonl", *[("How many roads are there?", str(k), "1") for k in range(8)])
    known = {"n": n, "dataset": name, **({"dataset_from": how} if how else {})}
    Path("results.json").write_text(json.dumps(known))
    run("score", "predictions.jsonl", "--json")
    found = json.loads(capsys.readouterr().out)
    assert (found["dataset"], found["dataset_from"]) == told


NEAR = [("How many roads are there?", "1", "2"), ("How many farms are there?", "5", "6")]


@pytest.mark.parametrize("told", ["--dataset", "lines", "results.json"])
@pytest.mark.parametrize(("name", "oa"), [("LR", 1), ("HR", 0)])
def test_a_comparison_is_in_the_classes_of_the_scores_above_it(capsys, told, name, oa):
    """However these are known, and whether the other file says them or not."""
    lines("p.jsonl", *NEAR, **({"dataset": name} if told == "lines" else {}))
    lines("q.jsonl", *((q, a, "no") for q, a, _ in NEAR))
    words = ["--dataset", name] if told == "--dataset" else []
    if told == "results.json":
        Path("results.json").write_text(
            json.dumps({"n": len(NEAR), "dataset": name, "dataset_from": "files"})
        )
    run("score", "p.jsonl", "--against", "q.jsonl", *words, "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["dataset"] == found["against"]["dataset"] == name
    assert found["protocols"]["official"]["OA"] == oa
    assert found["against"]["protocols"]["official"]["OA"]["after"] == oa
    run("score", "p.jsonl", "--against", "q.jsonl", *words)
    above, _, below = capsys.readouterr().out.partition("Against q.jsonl")
    assert f"official ({name})" in above
    assert f"official ({name})" in below


def test_it_is_not_mentioned_where_it_does_not_matter(capsys):
    lines("p.jsonl", ("Is there a road?", "yes", "no"), ("Is it a rural or an urban area",
          "rural", "rural"))  # fmt: skip
    run("score", "p.jsonl")
    assert "compared exactly" not in capsys.readouterr().out


def test_predictions_results_and_report_carry_it(small_base, capsys):
    run("data2csv", "--folder", write_rsvqa(Path("data"), images=3, prefix="USGS_split_test_"))
    run("csv2json", "-i", "rsvqa-dataset-test.csv", "-o", "c.json")
    run("eval", small_base, "--test", "c.json", "-o", "out", "--json")
    found = json.loads(capsys.readouterr().out)
    assert (found["dataset"], found["dataset_from"]) == ("HR", "files")
    shutil.copy("out/predictions.jsonl", "elsewhere.jsonl")
    run("score", "elsewhere.jsonl", "--json")
    alone = json.loads(capsys.readouterr().out)
    assert alone["dataset"] == "HR"
    assert alone["protocols"] == found["protocols"]
    run("report", "--after", "elsewhere.jsonl")
    assert "RSVQA-HR classes" in Path("report.html").read_text("utf-8")
    capsys.readouterr()
    # the same answers in other classes: nothing is asked again
    run("eval", small_base, "--test", "c.json", "-o", "out", "--set", "data.dataset=LR", "--json")
    out, err = capsys.readouterr()
    assert "is up to date" in err
    other = json.loads(out)
    assert (other["dataset"], other["dataset_from"]) == ("LR", "setting")
    run("score", "out/predictions.jsonl", "--json")
    assert json.loads(capsys.readouterr().out)["protocols"] == other["protocols"]


@pytest.mark.slow
def test_a_run_that_knows_it_not_says_so(run_here, capsys):
    assert read(run_here / "manifest.json")["dataset"] == {
        "name": "unknown", "from": "unknown", "manner": "",
    }  # fmt: skip
    run("eval", run_here)
    assert EXACT in capsys.readouterr().out
    run("eval", run_here, "--set", "data.dataset=HR")
    assert "official (HR)" in capsys.readouterr().out
    run("train", run_here / "config.toml", "--resume", "--set", "data.dataset=LR")
    out, err = capsys.readouterr()
    assert "official (LR)" in out
    assert "asking" not in err
    assert read(run_here / "eval/after/results.json")["dataset"] == "LR"


def test_a_run_s_setting_is_about_its_own_questions(run_here, capsys):
    settings = (run_here / "config.toml").read_text().replace("[data]", '[data]\ndataset = "LR"')
    (run_here / "config.toml").write_text(settings)
    own = list(read_samples(Path("data_vl_test.json")))
    write_conversations(Path("hr.json"), [replace(s, dataset="HR") for s in own])
    write_conversations(Path("unsaid.json"), own)
    for words, told in (
        ([], ("LR", "setting")),
        (["--test", "unsaid.json"], ("LR", "setting")),
        (["--test", "hr.json"], ("HR", "files")),
        (["--test", "hr.json", "--set", "data.dataset=xBEN"], ("xBEN", "setting")),
    ):
        run("eval", run_here, *words, "--json")
        found = json.loads(capsys.readouterr().out)
        assert (found["dataset"], found["dataset_from"]) == told


def test_a_run_made_before_keeps_its_classes_and_says_that_they_are_inferred(run_here, capsys):
    manifest = read(run_here / "manifest.json")
    del manifest["dataset"]
    (run_here / "manifest.json").write_text(json.dumps(manifest))
    for name in ("before", "after"):
        path = run_here / "eval" / name / "results.json"
        known = read(path)
        old = {k: v for k, v in known.items() if k not in ("dataset_from", "unreadable_truth")}
        path.write_text(json.dumps(old | {"dataset": "LR", "unreadable": 0}))
    run("report", run_here)
    page = (run_here / "report.html").read_text("utf-8")
    assert "RSVQA-LR classes" in page
    assert "is inferred from the types" in page
    words = "the run did not record its data set; inferred from the question types"
    run("score", run_here / "eval/after/predictions.jsonl")
    assert words in capsys.readouterr().out
    run("eval", run_here, "--json")
    found = json.loads(capsys.readouterr().out)
    assert (found["dataset"], found["dataset_from"]) == ("LR", "inferred")
    run("eval", run_here)
    assert words in capsys.readouterr().out
    run("eval", run_here, "--test", "data_vl_test.json")  # questions that are named are not its own
    assert EXACT in capsys.readouterr().out


def test_the_demo_is_scored_in_the_classes_that_it_always_was(small_base, capsys):
    """The demo's own steps on fewer scenes; its questions are asked of a base without training."""
    smaller = {"480": "8 --workers 1", "0.875,0,0.125": "0.5,0,0.5"}
    for step in STEPS[:5]:
        for old, new in smaller.items():
            step = step.replace(old, new)
        run(*step.split())
    assert read("data/generate.json")["dataset"] == {"name": "LR", "manner": "balanced"}
    for name in ("data_vl.json", "held_out.json"):
        marks = {(r["dataset"], r["manner"]) for r in read(name)}
        assert marks == {("LR", "balanced")}
    capsys.readouterr()
    run("eval", small_base, "--test", "held_out.json", "--train-questions", "data_vl.json", "-o",
        "out", "--set", "eval.max_new_tokens=2", "--json")  # fmt: skip
    found = json.loads(capsys.readouterr().out)
    assert (found["dataset"], found["dataset_from"]) == ("LR", "files")
    run("score", "out/predictions.jsonl", "--dataset", "LR", "--json")
    assert json.loads(capsys.readouterr().out)["protocols"] == found["protocols"]


def next_of(capsys):
    """The command that is printed last, as a list of words."""
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("next: qwen2vl-rs ")
    return last.removeprefix("next: qwen2vl-rs ").split()


@pytest.mark.parametrize("order", ["table by table", "tables first"])
def test_the_printed_steps_train_on_the_training_split(capsys, order):
    write_rsvqa(Path("data"), images=3, side=28, prefix="LR_split_train_")
    write_rsvqa(Path("data"), images=2, side=28, prefix="LR_split_test_", first=3)
    follow = []
    for split in ("train", "test"):
        run("data2csv", "--folder", "data", "--split", split)
        follow.append(next_of(capsys))
        if order == "table by table":
            run(*follow.pop())
            last = next_of(capsys)
    for words in follow:
        run(*words)
        last = next_of(capsys)
    assert last == ["train", "--train", "data_vl.json", "--test", "rsvqa-dataset-test.json"]
    trained, tested = ({Path(s.image).stem for s in read_samples(Path(name))}
                       for name in (last[2], last[4]))  # fmt: skip
    assert (trained, tested) == ({"0", "1", "2"}, {"3", "4"})


def test_what_replaces_the_questions_of_another_source_says_so(capsys):
    write_rsvqa(Path("data"), images=3, side=28, prefix="LR_split_train_")
    write_rsvqa(Path("data"), images=2, side=28, prefix="LR_split_val_", first=3)
    for split in ("train", "val"):
        run("data2csv", "--folder", "data", "--split", split, "-o", f"{split}.csv")
    run("csv2json", "-i", "train.csv")
    run("csv2json", "-i", "train.csv")
    assert "replaced" not in capsys.readouterr().err
    run("csv2json", "-i", "val.csv")
    err = capsys.readouterr().err
    assert "warning: data_vl.json contained questions about other images, e.g. " in err
    assert err.endswith("next: qwen2vl-rs eval MODEL --test data_vl.json\n")
    write_conversations(Path("c.json"), make_samples(Path("pictures").absolute(), images=1))
    run("csv2json", "-i", "train.csv", "-o", "c.json")
    assert "pictures/0.tif: it is replaced" in capsys.readouterr().err
