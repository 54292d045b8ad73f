"""A data set is one file: what it says of itself is all that the package needs."""

import json
from pathlib import Path

import pytest

from bases import configured
from factory import make_samples
from qwen2vl_rs import known_datasets
from qwen2vl_rs.datasets import file_forms
from qwen2vl_rs.datasets.file_forms import FileForm, register_form
from qwen2vl_rs.datasets.left_out import NO_ANSWER
from qwen2vl_rs.datasets.reading import read_samples
from qwen2vl_rs.errors import DataError
from qwen2vl_rs.known_datasets import KnownDataset, all_datasets, dataset_name, register
from qwen2vl_rs.questions.answer_sets import answer_sets
from qwen2vl_rs.questions.protocols import protocol
from qwen2vl_rs.reporting.evidence import from_run
from qwen2vl_rs.reporting.page import write_report


def pond_rows(path, with_images, counts):
    """``{"ponds": {IMAGE: [[QUESTION, ANSWER], …]}}``, which no other data set writes so."""
    number = 0
    for image, asked in json.loads(path.read_text())["ponds"].items():
        for question, answer in asked:
            number += 1
            if answer is None:
                counts.add(NO_ANSWER, number)
                continue
            yield f"pond_{number}", image, question, answer, "", "Pond7", ""


@pytest.fixture
def pond(monkeypatch):
    monkeypatch.setattr(known_datasets, "_known", dict(all_datasets()))
    monkeypatch.setattr(file_forms, "_registered", [])
    register_form(FileForm(lambda start: start.key == "ponds", pond_rows))
    return register(
        KnownDataset(
            name="Pond7",
            title="Ponds",
            licence="CC0",
            splits=("train", "test"),
            types=("presence", "count"),
            bucketed=frozenset({"count"}),
            answers={"count": ("0", "7")},
        )
    )


def test_those_of_rsvqa_are_known_by_every_spelling():
    assert list(all_datasets())[:3] == ["LR", "HR", "xBEN"]
    for text, name in {
        "LR": "LR", "rsvqa-lr": "LR", "RSVQA_HR": "HR", "xben": "xBEN", "RSVQAxBEN": "xBEN",
        "VRSBench-VQA": "VRSBench", "earth vqa": "EarthVQA", "FloodNet": "FloodNet",
        "FloodNot": "", "": "", "Pond7": "", "LR2": "",
    }.items():  # fmt: skip
        assert dataset_name(text) == name
    assert dataset_name(None) == dataset_name(7) == ""


def test_a_new_one_has_classes_of_its_own(pond):
    to_class = protocol("official").to_class
    assert to_class("12", "count", "Pond7") == to_class("12", "count", "LR")
    assert to_class("12", "count", "HR") == to_class("12", "count", "unknown") == "12"
    found = answer_sets((), "Pond7")["count"]
    assert dict(zip(found.texts, found.classes, strict=True)) == {
        "0": "0",
        "7": "between 0 and 10",
    }
    assert dataset_name("pond7") == "Pond7"


def written_as_ponds(folder: Path, images: int) -> Path:
    by_image: dict[str, list[list[str | None]]] = {}
    for sample in make_samples(folder / "images", images=images):
        by_image.setdefault(sample.image, []).append([sample.question, sample.answer])
    next(iter(by_image.values())).append(["Is there a pond?", None])
    path = folder / "ponds.json"
    path.write_text(json.dumps({"ponds": by_image}))
    return path


def test_a_new_one_is_read_in_its_own_form(pond, tmp_path, capsys):
    path = written_as_ponds(tmp_path, images=4)
    data = read_samples(path)
    assert [(s.image, s.question, s.answer) for s in data] == [
        (s.image, s.question, s.answer) for s in make_samples(tmp_path / "images", images=4)
    ]
    assert data.distinct("dataset") == ["Pond7"]
    assert "left out: 1 without an answer" in capsys.readouterr().err
    path.write_text(json.dumps({"lakes": {}}))
    with pytest.raises(DataError, match=r"contains no questions .*its first key is 'lakes'"):
        read_samples(path)


def test_a_new_one_is_trained_on_evaluated_and_reported(pond, tmp_path, small_base, monkeypatch):
    from qwen2vl_rs.training.fit import train

    monkeypatch.chdir(tmp_path)
    written_as_ponds(tmp_path, images=4)
    asked = ("data.conversations=ponds.json", "training.max_steps=1", "output=run")
    outcome = train(configured(small_base, *asked))
    assert outcome.after["dataset"] == "Pond7"
    assert outcome.after["dataset_from"] == "files"
    manifest = json.loads(Path("run/manifest.json").read_text())
    assert manifest["dataset"]["name"] == "Pond7"
    assert {p.dataset for p in from_run(Path("run")).after.predictions} == {"Pond7"}
    written = write_report(from_run(Path("run")), tmp_path / "report")
    assert written.html.is_file()
    assert "Pond7" in written.markdown.read_text()
