"""What the version before has written is still read: a run, its answers, its checkpoint.

The archive holds a base, images, a configuration and the run made of them; it was made in a folder
that is not there any more, so that every command is told where base and images lie now.
"""

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from qwen2vl_rs.cli import main

ARCHIVE = Path(__file__).parents[1] / "fixtures" / "run-0.1.tar.xz"
PLACES = ("--base", "base", "--images", "images")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def old(unpacked, tmp_path, monkeypatch):
    """A copy of the folder, the current one."""
    monkeypatch.chdir(shutil.copytree(unpacked, tmp_path / "moved"))


def said(capsys, *words):
    assert main([*map(str, words)]) == 0, capsys.readouterr().err
    return capsys.readouterr()


def inputs(folder):
    return json.loads(Path(folder, "inputs.json").read_text("utf-8"))


def answers(folder):
    """What was answered; the images have moved."""
    rows = Path(folder, "predictions.jsonl").read_text("utf-8").splitlines()
    return [{k: v for k, v in json.loads(row).items() if k != "image"} for row in rows]


@pytest.mark.parametrize(
    ("words", "folders"),
    [
        (("eval", "run", *PLACES, "--answers", "free"), ("test-free", "test-free/shuffled")),
        (("compare", "run", *PLACES), ("before", "after")),
        (("train", "config.toml", "--resume", "--model", "base", "--images", "images"),
         ("before", "after", "shuffled")),
    ],
)  # fmt: skip
def test_its_answers_are_up_to_date(old, capsys, words, folders):
    before = {name: (inputs(f"run/eval/{name}"), answers(f"run/eval/{name}")) for name in folders}
    scores = Path("run/eval", folders[0], "results.json").read_text("utf-8")
    _, err = said(capsys, *words)
    assert err.count("is up to date") == len(folders)
    assert "asking (" not in err
    for name, (known, rows) in before.items():
        assert answers(f"run/eval/{name}") == rows
        assert inputs(f"run/eval/{name}").get("checkpoint") == known.get("checkpoint")
    assert Path("run/eval", folders[0], "results.json").read_text("utf-8") == scores


def test_its_adapter_answers_as_it_did(old, capsys):
    row = next(r for r in answers("run/eval/test-free") if r["question"] == "Is there a road?")
    words = ("ask", "run", "--base", "base", "images/0.png", row["question"], "--json")
    (found,) = json.loads(said(capsys, *words).out)
    assert found["answer"] == row["text"]
    assert found["confidence"] == pytest.approx(row["confidence"], rel=1e-4)


def test_it_is_reported_scored_and_exported(old, capsys):
    said(capsys, "report", "run")
    assert "checkpoint-4" in Path("run/report.html").read_text("utf-8")
    out, _ = said(capsys, "score", "run/eval/after/predictions.jsonl", "--json")
    known = json.loads(Path("run/eval/after/results.json").read_text("utf-8"))
    assert json.loads(out)["protocols"] == known["protocols"]
    said(capsys, "export", "run", "-o", "exported")
    assert Path("exported/adapter_model.safetensors").is_file()


def test_training_goes_on_where_its_checkpoint_was_lost(old, capsys):
    """The last checkpoint is made again from the data, base and images in their new places."""
    for name in ("checkpoint-4", "train_results.json", "compare.json"):
        path = Path("run", name)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    Path("run/metrics.jsonl").write_text("", "utf-8")
    said(capsys, "train", "config.toml", "--resume", "--model", "base", "--images", "images")
    assert Path("run/checkpoint-4/adapter_model.safetensors").is_file()
    assert Path("run/compare.json").is_file()
