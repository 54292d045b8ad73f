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

import qwen2vl_rs as rs
import settings_picture


def imports():
    names = [m.name for m in pkgutil.walk_packages(rs.__path__, "qwen2vl_rs.")]
    for name in names:
        importlib.import_module(name)
    assert len(names) > 150


def draw():
    rs.generate(synthetic=2, output="world", questions=4, tile=64, workers=2)


def read():
    from qwen2vl_rs.datasets.reading import csv2json, data2csv

    data2csv(
        Path("rsvqa_questions.json"), Path("rsvqa_answers.json"), Path("rsvqa_images"),
        Path("table.csv"), with_type=True,
    )  # fmt: skip
    csv2json(Path("table.csv"), Path("test.json"))


def split():
    from qwen2vl_rs.datasets.split import split_by_image

    data = rs.datasets.read("test.json")
    assert all(map(len, split_by_image(data, 0.5, 1)))
    assert data.plot(0)._repr_html_()
    assert len(data.to_pandas()) == len(data)


def score():
    found = rs.score("before.jsonl")
    assert rs.compare(found, found).to_pandas() is not None


def report():
    assert rs.report(after="before.jsonl", dataset="LR", output="report")._repr_html_()


def ask():
    model = rs.load(BASE)
    asked = ["Is there a road?", "How many roads are there?"]
    for mode in ("closed", "free"):
        assert model.ask("rsvqa_images/1.tif", asked, answers=mode)._repr_html_()


def evaluate():
    assert rs.evaluate(rs.load(BASE), "test.json", max_eval=12, output="eval").official.n


def ask_a_server():
    there = rs.load(endpoint=os.environ["ENDPOINT_UNDER_TEST"], model="m")
    assert there.ask("rsvqa_images/1.tif", "Is there a road?")
    assert rs.evaluate(there, "test.json", max_eval=12, output="eval-m").official.n


def map_a_scene():
    asked = "Is there a road?"
    assert rs.map_scene(rs.load(BASE), "rsvqa_images/1.tif", asked, tile=28).rows()


def train():
    done = rs.train(
        model=str(BASE), output="run", training={"max_steps": 2}, eval={"max_eval": 4},
        data={"conversations": "test.json"},
    )  # fmt: skip
    assert done.after.official.n


def ask_what_was_trained():
    assert rs.load("run").ask("rsvqa_images/1.tif", "Is there a road?", answers="closed")


def export():
    from qwen2vl_rs.config import InputConfig
    from qwen2vl_rs.datasets.export_formats import export_dataset

    export_dataset(Path("test.json"), "trl", Path("trl"), InputConfig())
    rs.export("run", "merged", merge=True)


def fetch(hub):
    rs.download("some/model", hub=hub, folder=hub)


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
