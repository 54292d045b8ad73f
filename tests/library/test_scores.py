"""Evaluations as a notebook has them: the same figures as the commands."""

import json
from pathlib import Path

import pandas as pd
import pytest

import qwen2vl_rs as rs
from endpoints import running, said
from factory import make_samples, write_run
from qwen2vl_rs.cli import main
from qwen2vl_rs.datasets.base import Dataset
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.errors import ConfigError, DataError, RunError
from qwen2vl_rs.models import loader
from qwen2vl_rs.system.jsonl import to_json


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_run(tmp_path) / "eval"


def test_scores_are_those_of_the_command(files, capsys):
    told = {"before": "before", "after": "after", "shuffled": "shuffled"}
    paths = {key: str(files / name / "predictions.jsonl") for key, name in told.items()}
    words = ["--shuffled", paths["shuffled"], "--against", paths["before"]]
    words += ["--train-questions", "data_vl_train.json", "--json"]
    assert main(["score", paths["after"], *words]) == 0
    wanted = json.loads(capsys.readouterr().out)
    found = rs.score(paths["after"], train="data_vl_train.json", shuffled=paths["shuffled"])
    change = rs.compare(paths["before"], found)
    assert json.loads(to_json(change.to_dict())) == wanted.pop("against")
    assert json.loads(to_json(found.to_dict())) == wanted
    official = wanted["protocols"]["official"]
    assert (found.official.OA, list(found.official.interval)) == (
        official["OA"], official["OA_ci"],
    )  # fmt: skip
    assert found.official.controls["shuffled_image"] < found.official.OA
    assert float(found.official.types["count"]) == official["types"]["count"]["accuracy"]
    assert found.geochat.n < found.raw.n == found.original.n
    assert capsys.readouterr() == ("", "")


def test_records_are_scored_as_their_file(files):
    file = files / "after/predictions.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()]
    wanted = rs.score(file).to_dict() | {"dataset_from": "files"}
    for given in (records, iter(records), pd.DataFrame(records).to_dict("records")):
        assert rs.score(given).to_dict() == wanted
    with pytest.raises(DataError, match="line 1: prediction is missing"):
        rs.score([{"question": "Is there a road?", "answer": "yes"}])
    with pytest.raises(DataError, match="not predictions"):
        rs.score({"question": "Is there a road?"})


def test_results_are_tables(files):
    found = rs.score(files / "after/predictions.jsonl")
    frame = found.to_pandas()
    assert set(frame["protocol"]) == set(found.to_dict()["protocols"])
    row = frame[(frame["protocol"] == "official") & (frame["type"] == "OA")].iloc[0]
    assert row["accuracy"] == found.official.OA
    assert "official" in repr(found)
    assert found._repr_html_().startswith("<table>")
    change = rs.compare(files / "before/predictions.jsonl", found)
    assert "difference" in change.to_pandas()
    assert "fixed" in repr(change)


def test_a_protocol_that_is_not_there_is_refused(files):
    found = rs.score(files / "after/predictions.jsonl", protocols=["official"])
    with pytest.raises(ConfigError, match="raw"):
        _ = found.raw


def test_an_evaluation_loads_its_model_once(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = rs.load(trained[0] / "output/Qwen2-VL-2B")
    samples = make_samples(tmp_path / "images", 3)
    write_conversations(tmp_path / "test.json", samples)
    model.ask(samples[0].image, samples[0].question)

    def refused(*_, **__):
        raise AssertionError("loaded a second time")

    data, kept = Dataset.of(samples), {"output": tmp_path / "kept"}
    with monkeypatch.context() as patch:
        patch.setattr("qwen2vl_rs.predict.session.load_base", refused)
        found = rs.evaluate(model, data, train=data, **kept)
    assert loader.load_base is not refused
    again = rs.evaluate(rs.load(trained[0] / "output/Qwen2-VL-2B"), data, train=data, **kept)
    assert again.to_dict() == found.to_dict()
    assert {p.id for p in found.predictions} == {s.id for s in samples}
    by_file = rs.evaluate(model, "test.json", train="test.json", output="by-file")
    assert by_file.to_dict() == found.to_dict()


def test_the_base_of_a_run_is_evaluated_as_it_stands(trained, small_base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = Dataset.of(make_samples(tmp_path / "images", 3))
    found = rs.evaluate(rs.load(small_base), data, max_eval=4)
    assert found.official.n == 4
    assert found.folder.parts[:2] == ("output", "eval-base")
    other = rs.evaluate(rs.load(small_base), data, settings={"eval.max_new_tokens": 1}, max_eval=4)
    assert all(len(p.text.split()) <= 1 for p in other.predictions)


def test_a_server_is_evaluated_likewise(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    samples = make_samples(tmp_path / "images", 2)
    with running(lambda body, _: said("yes")) as api:
        there = rs.load(endpoint=api.url, model="name")
        found = rs.evaluate(there, Dataset.of(samples), train=Dataset.of(samples))
        with pytest.raises(ConfigError, match="questions"):
            rs.evaluate(there)
    assert {p.text for p in found.predictions} == {"yes"}
    assert 0 < found.official.OA < 1


def test_answers_to_other_questions_are_not_replaced(small_base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = Dataset.of(make_samples(tmp_path / "images", 2))
    model = rs.load(small_base)
    rs.evaluate(model, data, output="kept")
    with pytest.raises(RunError, match="holds answers to") as caught:
        rs.evaluate(model, data[:4], output="kept")
    assert "output=" in caught.value.hint
    with pytest.raises(RunError, match="holds answers to"):
        rs.evaluate(model, data, max_eval=3, output="kept")
    records = [{"image": s.image, "question": s.question, "answer": s.answer} for s in data]
    rs.evaluate(model, records, output="records")
    with pytest.raises(RunError, match="holds answers to"):  # of the same ids: row_1, …
        rs.evaluate(model, records[::-1], output="records")
    assert len(Path("kept/predictions.jsonl").read_text().splitlines()) == len(data)
    rs.evaluate(model, data, output="kept")


def test_an_evaluation_keeps_its_answers(small_base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = Dataset.of(make_samples(tmp_path / "images", 2))
    model = rs.load(small_base)
    short = rs.evaluate(model, data, settings={"eval.max_new_tokens": 1})
    long = rs.evaluate(model, data, settings={"eval.max_new_tokens": 16})
    assert short.folder == long.folder
    assert [p.text for p in short.predictions] != [p.text for p in long.predictions]
    assert rs.score(short.predictions).official.OA == short.official.OA
    assert long.file.is_file()
    with pytest.raises(ConfigError, match="has replaced"):
        rs.report(after=short, output="r")


def test_records_and_frames_are_questions(small_base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = Dataset.of(make_samples(tmp_path / "images", 2))
    model = rs.load(small_base)
    wanted = rs.evaluate(model, data, train=data, output="a").to_dict()
    for n, given in enumerate((list(data), data.to_pandas())):
        assert rs.evaluate(model, given, train=given, output=f"b{n}").to_dict() == wanted
    for wrong in ([1, 2], 7):
        with pytest.raises(DataError, match="not questions"):
            rs.evaluate(model, wrong)
    with pytest.raises(ConfigError, match="not a model"):
        rs.evaluate("base", data)


def test_one_image_is_said_to_give_no_interval(small_base, tmp_path, caplog):
    data = Dataset.of(make_samples(tmp_path / "images", 1))
    rs.evaluate(rs.load(small_base), data, output=tmp_path / "one")
    assert "about one image" in caplog.text


def test_values_that_are_not_possible_are_named(files):
    with pytest.raises(ConfigError, match="dataset="):
        rs.score(files / "after/predictions.jsonl", dataset="rsvqa")
    found = rs.score(files / "after/predictions.jsonl", protocols="official")
    assert list(found.to_dict()["protocols"]) == ["official"]
