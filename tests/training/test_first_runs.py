"""What a newcomer does with runs: interrupted ones, moved images, the folder above them."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from factory import make_samples
from qwen2vl_rs.cli import main
from qwen2vl_rs.predict.job import Job
from qwen2vl_rs.predict.predictor import Reply, to_prediction
from qwen2vl_rs.raster import image_digest

RUN = Path("output/lr")


@pytest.fixture
def here(trained, tmp_path, monkeypatch):
    """A copy of a finished run in ``output/lr``, with its images in ``images``."""
    folder, _ = trained
    shutil.copytree(folder / "output/Qwen2-VL-2B", tmp_path / RUN)
    shutil.copytree(folder / "images", tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def unfinished(here):
    """As Ctrl-C leaves a run after its first checkpoint."""
    for name in ("train_results.json", "compare.json"):
        (RUN / name).unlink()
    shutil.rmtree(RUN / "eval")
    kept, *later = sorted(RUN.glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    for path in later:
        shutil.rmtree(path)
    steps = json.loads((kept / "trainer_state.json").read_text())["max_steps"]
    return kept.name, steps


def told(capsys, *words):
    """Exit code, results and conversation of a command."""
    capsys.readouterr()
    code = main(list(map(str, words)))
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def test_an_interrupted_run_is_never_taken_for_a_finished_one(unfinished, capsys):
    name, steps = unfinished
    resume = f"hint: finish it: qwen2vl-rs train {RUN}/config.toml --resume"
    code, _, err = told(capsys, "report", RUN)
    assert (code, err.count("holds no answers after training")) == (1, 1)
    said = f"warning: {RUN}: {name} of {steps} steps, training is not finished\n{resume}"
    code, _, err = told(capsys, "compare", "--run", RUN, "-n", "1")
    assert (code, err.count(said)) == (0, 1), err
    for language, remark in (
        (
            "en",
            f"Training is not finished: these results are of {name}; {steps} steps are planned.",
        ),
        ("zh", f"训练尚未完成：以下是 {name} 的结果，计划共训练 {steps} 步。"),
    ):
        code, _, err = told(capsys, "report", RUN, "--lang", language)
        assert (code, err.count(said)) == (0, 1), err
        html, text = (RUN / "report.html").read_text(), (RUN / "report.md").read_text()
        assert html.index(remark) < html.index('class="verdict"')
        assert remark in text.replace("\\", "").splitlines()[4]
    code, _, err = told(capsys, "export", RUN, "-o", "adapter")
    assert code == 1
    assert err.splitlines()[-2:] == [
        f"error: training in {RUN} is not finished: {name} of {steps} steps", resume,
    ]  # fmt: skip
    code, _, err = told(capsys, "eval", RUN, "--max-eval", "2")
    assert (code, err.count(said)) == (0, 1), err


def test_a_finished_run_carries_no_remark_and_older_answers_one(here, capsys):
    assert told(capsys, "report", RUN)[0] == 0
    page = (RUN / "report.md").read_text()
    assert "not finished" not in page
    inputs = RUN / "eval/after/inputs.json"
    inputs.write_text(json.dumps({**json.loads(inputs.read_text()), "checkpoint": "checkpoint-4"}))
    assert told(capsys, "report", RUN)[0] == 0
    assert "These results are of checkpoint\\-4" in (RUN / "report.md").read_text().replace(
        "checkpoint-4", "checkpoint\\-4"
    )
    code, _, err = told(capsys, "export", RUN, "-o", "adapter")
    assert (code, err.count("the results in output/lr are of checkpoint-4")) == (1, 1), err


def records(name):
    lines = (RUN / "eval" / name / "predictions.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_moved_images_take_their_predictions_along(here, trained, capsys):
    before = records("after")
    Path("moved").mkdir()
    shutil.move("images", "moved/pictures")
    folder = str((here / "moved/pictures").resolve())
    words = ("compare", "--run", RUN, "--images", "moved/pictures", "--json")
    code, out, err = told(capsys, *words)
    assert code == 0, err
    assert "asking again" not in err
    assert err.count("is up to date") == 2
    assert all(json.loads(line)["image"].startswith(folder) for line in out.splitlines())
    after = records("after")
    assert {Path(line["image"]).parent for line in after} == {Path(folder)}
    keep = [{k: v for k, v in line.items() if k != "image"} for line in before]
    assert keep == [{k: v for k, v in line.items() if k != "image"} for line in after]
    code, _, err = told(capsys, *words)
    assert (code, err.count("is up to date")) == (0, 2)
    swapped = sorted(Path(folder).glob("*.tif"))[:2]  # other images under the old names
    contents = [path.read_bytes() for path in swapped]
    for path, content in zip(swapped, reversed(contents), strict=True):
        path.write_bytes(content)
    asked = {Path(line["image"]).name for line in before}
    code, _, err = told(capsys, *words)
    assert (code, "asking again" in err) == (0, bool(asked & {path.name for path in swapped}))


def lead_here(old, new):
    """Let a run's questions name the images of another folder."""
    manifest = RUN / "manifest.json"
    text = manifest.read_text()
    for file in (RUN / "data").glob("*.json"):
        was = hashlib.sha256(file.read_bytes()).hexdigest()
        file.write_text(file.read_text().replace(str(old), str(new)))
        text = text.replace(was, hashlib.sha256(file.read_bytes()).hexdigest())
    manifest.write_text(text)


@pytest.mark.parametrize(
    "words",
    [("compare", "--run", RUN), ("eval", RUN), ("train", RUN / "config.toml", "--resume")],
    ids=lambda words: words[0],
)
def test_what_needs_moved_images_says_where_to_name_their_folder(here, trained, words, capsys):
    lead_here(trained[0], here)
    shutil.move("images", "pictures")
    code, _, err = told(capsys, *words)
    assert code == 1
    error, hint = err.splitlines()[-2:]
    assert error.endswith(".tif: no such file (nor is its folder)")
    assert hint == "hint: if the images were moved: --images FOLDER"


def test_a_report_without_its_pictures_says_so(here, trained, capsys):
    file = RUN / "eval/after/predictions.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for i, line in enumerate(lines):  # something to be shown
        line["image"] = line["image"].replace(str(trained[0]), str(here))
        line["prediction"] = line["answer"] if i % 2 else "?"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "without a picture" not in told(capsys, "report", RUN)[2]
    shutil.move("images", "pictures")
    code, _, err = told(capsys, "report", RUN)
    assert code == 0
    assert "without a picture: the file is missing, e.g. " in err
    assert "hint: if the images were moved: --images FOLDER" in err
    assert "without a picture" not in told(capsys, "report", RUN, "--images", "pictures")[2]


ABOVE = "is not a model, but holds some"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ask", "output", "images", "Is there a road?"), f"output {ABOVE}"),
        (("eval", "output"), f"output {ABOVE}"),
        (("map", ".", "images/0.tif", "Is there a road?"), f". {ABOVE}"),
        (("serve", "output"), f"output {ABOVE}"),
        (("compare", "output"), "output is not the folder of a run"),
        (("compare", "--run", "."), ". is not the folder of a run"),
        (("report", "output"), "output is not the folder of a run"),
        (("export", "output", "-o", "x"), "output is not the folder of a run"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_the_folder_above_runs_is_answered_with_their_names(here, words, said, capsys):
    code, _, err = told(capsys, *words)
    assert code == 1
    error, hint = err.splitlines()[-2:]
    assert said in error
    assert hint.endswith((f": {RUN}", f": ./{RUN}"))


def test_a_base_that_is_elsewhere_is_not_asked_of_a_hub(here, capsys):
    Path("q.csv").write_text("image_path,question,answer\nimages/0.tif,Is there a road?,yes\n")
    words = ("train", "--train", "q.csv", "--test", "q.csv", "--model")
    code, _, err = told(capsys, *words, "demo/base")
    assert (code, "load" in err) == (1, False)
    assert "demo writes demo/base" in err
    Path("models/small").mkdir(parents=True)
    (Path("models/small") / "config.json").write_text("{}")
    code, _, err = told(capsys, *words, "models")
    assert (code, err.splitlines()[-1]) == (1, "hint: models in it: models/small")
    code, _, err = told(capsys, *words, "Qwen/Qwen2-VL-2B-Instruct")
    assert "load Qwen/Qwen2-VL-2B-Instruct; without a network, qwen2vl-rs demo" in err


def test_a_run_is_named_to_compare_as_to_other_commands(here, capsys):
    by_place = told(capsys, "compare", RUN, "-n", "2", "--json")
    by_option = told(capsys, "compare", "--run", RUN, "-n", "2", "--json")
    assert by_place == by_option
    assert (by_place[0], len(by_place[1].splitlines())) == (0, 2)
    code, _, err = told(capsys, "compare", RUN, "--run", RUN)
    assert (code, "give RUN or --run" in err) == (2, True)
    code, _, err = told(capsys, "train", RUN, "--resume")
    assert (code, err.splitlines()[-1]) == (1, f"hint: name the file in it: {RUN}/config.toml")


@pytest.mark.parametrize("named", [("--output", "new"), ("-o", "new"), ("--set", "output=new")])
def test_the_output_that_is_named_is_resumed_and_not_the_run_of_the_settings(here, named, capsys):
    words = ("train", RUN / "config.toml", "--resume", *named)
    code, _, err = told(capsys, *words)
    assert (code, "nothing to resume in new" in err) == (1, True), err
    shutil.copytree(RUN, "new")
    Path("new/manifest.json").write_text("{")
    code, _, err = told(capsys, *words)
    assert (code, "new/manifest.json is damaged" in err) == (1, True), err


def test_predictions_of_earlier_versions_are_used_where_the_images_still_lie(here):
    samples = make_samples(here / "some", images=2)
    content = {s.image: image_digest(s.image) for s in samples}
    facts = ((s.id, s.image, s.question, s.answer, s.type) for s in samples)
    parts = ["model", *content.values(), *map(repr, facts)]
    key = hashlib.sha256("".join(f"{part}\0" for part in parts).encode()).hexdigest()
    job = Job(samples, here / "job", ["model"])
    with job.appending(len(samples)) as log:
        log.add(to_prediction(sample, Reply("yes")) for sample in samples)
    partial = here / "job/predictions.partial-0.jsonl"
    partial.write_text(partial.read_text().replace(job.key, key))
    assert len(job.partial()) == len(samples)
    job.finish()
    inputs = here / "job/inputs.json"
    inputs.write_text(inputs.read_text().replace(job.key, key))
    assert len(job.ready()) == len(samples)
    inputs.write_text(inputs.read_text().replace(key, key[::-1]))
    assert job.ready() is None
