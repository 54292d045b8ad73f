"""Checks and inspections as a notebook has them: the same as the commands."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import qwen2vl_rs as rs
from factory import make_samples
from qwen2vl_rs.cli import main
from qwen2vl_rs.datasets.base import Dataset
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.errors import DataError
from qwen2vl_rs.system.jsonl import to_json


@pytest.fixture
def samples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = make_samples(tmp_path / "images", images=4)
    write_conversations(Path("data.json"), found)
    return found


def plain(value):
    return json.loads(to_json(value))


def test_a_check_is_that_of_the_command(samples, capsys):
    assert main(["check", "data.json", "--json"]) == 0
    wanted = json.loads(capsys.readouterr().out)
    found = rs.check("data.json")
    assert plain(found.to_dict()) == wanted
    assert found.ok
    assert main(["check", "data.json"]) == 0
    assert capsys.readouterr().out.strip() == repr(found).strip()
    table = found.to_pandas()
    assert isinstance(table, pd.DataFrame)
    assert list(table.columns) == ["check", "verdict", "count", "text", "hint"]
    assert "missing_images" in found._repr_html_()


def test_questions_in_memory_are_checked(samples):
    wrong = replace(samples[0], id="again", answer="perhaps")
    found = rs.check(train=Dataset.of([*samples[:16], wrong]), test=samples[16:])
    assert [one.check for one in found.findings if one.verdict != "ok"] == ["unreadable_answers"]
    (example,) = [one for finding in found.findings for one in finding.examples]
    assert (example.id, example.file, example.number) == ("again", "", None)


def test_settings_are_those_of_a_run(samples):
    found = rs.check("data.json", settings={"data.test_fraction": 0.5})
    assert [part.images for part in found.report.parts] == [2, 2]
    with pytest.raises(rs.Qwen2VLRSError, match="test_fractio"):
        rs.check("data.json", settings={"data.test_fractio": 0.5})


def test_hints_are_in_terms_of_python(samples):
    with pytest.raises(DataError) as error:
        rs.check("data.json", images="nowhere")
    assert "--" not in error.value.hint
    Path(samples[0].image).unlink()
    (missing,) = [one for one in rs.check("data.json").findings if one.verdict == "error"]
    assert missing.hint == "if the images were moved: images=..."


def test_an_inspection_is_that_of_the_command(samples, small_base, capsys):
    assert main(["inspect", "data.json", "--model", str(small_base), "--json"]) == 0
    wanted = json.loads(capsys.readouterr().out)
    found = rs.inspect("data.json", model=small_base)
    assert plain(found.to_dict()) == wanted
    assert main(["inspect", "data.json", "--model", str(small_base)]) == 0
    assert capsys.readouterr().out.strip() == repr(found).strip()
    assert (found.inspected.part, found.loss_text) == ("train", f"{samples[8].answer}<|im_end|>")
    assert len(found.to_pandas()) == len(wanted["tokens"])
    memory = rs.inspect(Dataset.of(samples), samples[0].id, model=small_base)
    assert memory.inspected.part == "test"
    assert "test, which is not trained on" in repr(memory)
    assert memory.loss_text == f"{samples[0].answer}<|im_end|>"
