"""Runs from a notebook."""

from pathlib import Path

import pytest

import qwen2vl_rs as rs
from factory import make_samples, write_run
from qwen2vl_rs.errors import ConfigError, RunError
from qwen2vl_rs.library.runs import Training, flat_settings


def test_settings_are_named_by_their_sections():
    given = {"lora": {"r": 4, "target_modules": ["q_proj"]}, "output": "x"}
    wanted = {"lora.r": 4, "lora.target_modules": ["q_proj"], "output": "x"}
    assert dict(flat_settings(given)) == wanted


def test_an_unknown_setting_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match=r"lora\.alpha"):
        rs.train(lora={"alpha": 3})


def test_questions_in_memory_replace_none(small_base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = rs.datasets.Dataset.of(make_samples(tmp_path / "images", 3))
    Path("c.toml").write_text('output = "output/two"\n')
    few = {"training": {"max_steps": 1}, "lora": {"r": 2}, "eval": {"max_eval": 4}}
    records = [{"image": s.image, "question": s.question, "answer": s.answer} for s in data]
    done = rs.train("c.toml", train=records[:8], test=data[8:], model=str(small_base), **few)
    assert done.run == Path("output/two")
    files = {p: p.read_bytes() for p in Path("output").rglob("given/*")}
    assert {p.parent for p in files} == {Path("output/two/given")}
    assert len(files) == 2
    with pytest.raises(RunError, match="already holds a run"):
        rs.train("c.toml", train=data[:2], test=data[8:], model=str(small_base), **few)
    assert {p: p.read_bytes() for p in Path("output").rglob("given/*")} == files


def test_a_report_shows_itself(tmp_path):
    made = rs.report(write_run(tmp_path))
    html = made._repr_html_()
    assert html.startswith("<iframe sandbox")
    assert "&lt;html" in html
    assert made.markdown.is_file()


@pytest.mark.parametrize(
    "named", [{}, {"run": "r", "after": "p.jsonl"}, {"run": "r", "before": "p.jsonl"}]
)
def test_a_report_is_about_one_thing(named):
    with pytest.raises(ConfigError, match="a run, or about predictions"):
        rs.report(**named)


def test_a_report_of_an_evaluation(tmp_path, monkeypatch):
    run = write_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    training = Training(run, *[rs.score(run / "eval/after/predictions.jsonl")] * 2, None)
    assert rs.report(training).html == run / "report.html"
    with pytest.raises(ConfigError, match="have no file"):
        rs.report(after=training.after)
    with pytest.raises(ConfigError, match="lang="):
        rs.report(run, lang="de")
