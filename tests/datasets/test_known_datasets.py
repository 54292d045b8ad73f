"""A data set is one file: what it says of itself is all that the package needs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bases import configured
from factory import make_samples
from qwen2vl_rs import known_datasets
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.known_datasets import KnownDataset, dataset_name, known, register
from qwen2vl_rs.questions.answer_sets import answer_sets
from qwen2vl_rs.questions.protocols import protocol
from qwen2vl_rs.report.evidence import from_run
from qwen2vl_rs.report.page import write_report


@pytest.fixture
def pond(monkeypatch):
    known()
    monkeypatch.setattr(known_datasets, "_known", dict(known()))
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
    assert list(known()) == ["LR", "HR", "xBEN"]
    for text, name in {
        "LR": "LR", "rsvqa-lr": "LR", "RSVQA_HR": "HR", "xben": "xBEN", "RSVQAxBEN": "xBEN",
        "FloodNet": "", "": "", "Pond7": "",
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


def test_a_new_one_is_trained_on_evaluated_and_reported(pond, tmp_path, small_base, monkeypatch):
    from qwen2vl_rs.training.fit import train

    monkeypatch.chdir(tmp_path)
    asked = [replace(s, dataset="Pond7") for s in make_samples(tmp_path / "images", images=4)]
    write_conversations(Path("data_vl.json"), asked)
    config = configured(small_base, "training.max_steps=1", "output=run")
    outcome = train(config)
    assert outcome.after["dataset"] == "Pond7"
    assert outcome.after["dataset_from"] == "files"
    manifest = json.loads(Path("run/manifest.json").read_text())
    assert manifest["dataset"]["name"] == "Pond7"
    assert {p.dataset for p in from_run(Path("run")).after.predictions} == {"Pond7"}
    written = write_report(from_run(Path("run")), tmp_path / "report")
    assert written.html.is_file()
    assert "Pond7" in written.markdown.read_text()
