"""Hints that name commands and options, as a Python user needs them."""

import pytest

from qwen2vl_rs.system.python_hints import in_python

EVALUATE = {"data", "train", "settings", "output"}
TRAIN = {"config", "train", "test", "resume", "settings", "model", "output"}


@pytest.mark.parametrize(
    ("command", "arguments", "python"),
    [
        ("another folder: --output FOLDER", EVALUATE, "another folder: output=..."),
        ("a split: --split train|val", {"split"}, 'a split: split="train|val"'),
        ("sum to 1, e.g. --split 0.8,0.1,0.1", {"split"}, "sum to 1, e.g. split=(0.8, 0.1, 0.1)"),
        ("go on: --resume; or: --output", TRAIN, "go on: resume=True; or: output=..."),
        ("--tile, or a finer --resolution", {"tile"}, "tile=..., or a finer --resolution"),
        ("name the questions: --test FILE", EVALUATE, "name the questions: data=..."),
        ("--train a.json --test b.json", TRAIN, 'train="a.json" test="b.json"'),
        ("--set data.dataset=LR", EVALUATE, 'settings={"data.dataset": "LR"}'),
        ("(--set training.fp16=false) or", TRAIN, '(training={"fp16": False}) or'),
        ("--set training.fp16=false", {"scene"}, "--set training.fp16=false"),
        ("get it: qwen2vl-rs load Qwen/Qwen2-VL-2B", {}, 'get it: rs.download("Qwen/Qwen2-VL-2B")'),
        ("again: qwen2vl-rs load --verify; or", {}, "again: rs.download(verify=True); or"),
        ("first: qwen2vl-rs train --output a/b", {}, 'first: rs.train(output="a/b")'),
        ("qwen2vl-rs train c.toml --resume", {}, 'rs.train("c.toml", resume=True)'),
        ("run: qwen2vl-rs eval", {}, "run: rs.evaluate(...)"),
        ("run: qwen2vl-rs eval RUN", {}, "run: rs.evaluate(rs.load(...))"),
        ("qwen2vl-rs eval RUN --test FILE", EVALUATE, "qwen2vl-rs eval RUN --test FILE"),
        ("qwen2vl-rs demo writes one: demo/base", TRAIN, "qwen2vl-rs demo writes one: demo/base"),
        ("qwen2vl-rs data2csv --questions FILE", EVALUATE, "qwen2vl-rs data2csv --questions FILE"),
        ("torchrun --nproc-per-node gpu", TRAIN, "torchrun --nproc-per-node gpu"),
        ("did you mean base?", TRAIN, "did you mean base?"),
    ],
)
def test_options_become_arguments(command, arguments, python):
    assert in_python(command, arguments) == python
