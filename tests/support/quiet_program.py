"""Imports the whole package and uses it once; writes down which settings of the process changed.

Run as ``python quiet_program.py FOLDER STEP…``: FOLDER holds what the test has put there, and gets
``changes.json``.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import sys
from pathlib import Path

import settings_picture


def imports():
    import qwen2vl_rs

    names = [m.name for m in pkgutil.walk_packages(qwen2vl_rs.__path__, "qwen2vl_rs.")]
    for name in names:
        importlib.import_module(name)
    assert len(names) > 150


def draw():
    from qwen2vl_rs.vqa_generation.generate import Plan, generate

    generate(Plan(synthetic=2, questions=4, tile=64), Path("world"), workers=2)


def read():
    from qwen2vl_rs.datasets.reading import csv2json, data2csv

    data2csv(
        Path("rsvqa_questions.json"), Path("rsvqa_answers.json"), Path("rsvqa_images"),
        Path("table.csv"), with_type=True,
    )  # fmt: skip
    csv2json(Path("table.csv"), Path("test.json"))


def split():
    from qwen2vl_rs.datasets.reading import read_samples
    from qwen2vl_rs.datasets.split import split_by_image

    assert all(map(len, split_by_image(read_samples(Path("test.json")), 0.5, 1)))


def score():
    from qwen2vl_rs.scoring.comparison import compare_runs
    from qwen2vl_rs.scoring.predictions import read_predictions
    from qwen2vl_rs.scoring.results import results

    run = read_predictions(Path("before.jsonl"))
    results(run)
    compare_runs(run, run)


def report():
    from qwen2vl_rs.report.evidence import from_files
    from qwen2vl_rs.report.page import write_report

    write_report(from_files(Path("before.jsonl"), dataset="LR"), Path("report"), "en")


def ask():
    from qwen2vl_rs.predict.session import Session

    session = Session.open(BASE)
    asked = ["Is there a road?", "How many roads are there?"]
    assert session.ask([(session.read("rsvqa_images/1.tif"), asked)], closed=True)
    assert session.ask([(session.read("rsvqa_images/1.tif"), asked)], closed=False)


def evaluate():
    from qwen2vl_rs.predict.evaluation import evaluate

    assert evaluate(BASE, [], {"eval.max_eval": 4}, test=Path("test.json"), output=Path("eval"))


def ask_a_server():
    from qwen2vl_rs.config import load_config
    from qwen2vl_rs.datasets.reading import read_samples
    from qwen2vl_rs.predict.endpoint import Endpoint, evaluate_endpoint

    there = Endpoint(os.environ["ENDPOINT_UNDER_TEST"], "m")
    config = load_config(None, ["eval.max_eval=4"])
    test = read_samples(Path("test.json"))
    assert evaluate_endpoint(there, test, None, config, Path("eval-m"))


def map_a_scene():
    from qwen2vl_rs.maps.mapper import MapRequest, make_map
    from qwen2vl_rs.predict.session import Session
    from qwen2vl_rs.report.map_page import write_page

    asked = MapRequest(Path("rsvqa_images/1.tif"), ("Is there a road?",), Path("map"), tile=28)
    write_page(Path("map/map.html"), make_map(Session.open(BASE), asked), "scene", "en")


def train():
    from qwen2vl_rs.config import load_config
    from qwen2vl_rs.training.fit import train

    wanted = {"model": str(BASE), "output": "run", "training.max_steps": 2, "eval.max_eval": 4}
    assert train(load_config(None, ["data.conversations=test.json"], wanted))


def ask_what_was_trained():
    from qwen2vl_rs.predict.session import Session

    session = Session.open(Path("run"))
    assert session.ask([(session.read("rsvqa_images/1.tif"), ["Is there a road?"])], closed=True)


def export():
    from qwen2vl_rs.config import ViewConfig
    from qwen2vl_rs.datasets.export_formats import write_form
    from qwen2vl_rs.models.merge import merge
    from qwen2vl_rs.report.export import export

    write_form(Path("test.json"), "trl", Path("trl"), ViewConfig())
    export(Path("run"), Path("merged"), None, merge)


def fetch(hub):
    from qwen2vl_rs.hub.fetch import load

    load("some/model", hub=hub, folder=Path(hub))


BASE = Path("base")
STEPS = {
    "import": imports, "draw": draw, "read": read, "split": split, "score": score, "ask": ask,
    "evaluate": evaluate, "report": report, "server": ask_a_server, "map": map_a_scene,
    "fetch from hf": lambda: fetch("hf"), "fetch from modelscope": lambda: fetch("modelscope"),
    "train": train, "trained": ask_what_was_trained, "export": export,
}  # fmt: skip


def main() -> None:
    os.chdir(sys.argv[1])
    for name in settings_picture.LIBRARIES:
        importlib.import_module(name)
    found = {}
    for name, step in STEPS.items():
        before = settings_picture.picture()
        step()
        if changed := settings_picture.changes(before, settings_picture.picture()):
            found[name] = changed
    Path("changes.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
