"""Open answers: yes, no and numbers as they are; anything else where it stands in the answer."""

import json

import pytest

from qwen2vl_rs.cli import main
from qwen2vl_rs.questions.open_answer import OpenAnswer

KIND = OpenAnswer("object color")
RULE = "VRSBench's rule without a judge"


@pytest.mark.parametrize(
    ("gold", "said", "score"),
    [
        ("white", "white", 1),
        ("white", "it is white and red", 1),
        ("white", "whitish", 0),
        ("white", "red", 0),
        ("yes", "yes, it is", 1),
        ("no", "not at all", 0),
        ("no", "yes", 0),
        ("3", "three", 1),
        ("3", "13", 0),
        ("3", "there are 3", 0),
        ("small vehicle", "a small vehicle", 1),
        ("white", "", 0),
    ],
)
def test_the_rule(gold, said, score):
    assert KIND.score(KIND.normalise(gold), KIND.normalise(said)) == score


def test_normal_forms_are_their_own():
    for said in ("yes, it is", "three", "twenty one", "a car", "7", "left side", "a"):
        normal = KIND.normalise(said)
        assert KIND.normalise(normal) == normal
    assert KIND.normalise("") is None
    assert KIND.score(None, None) == KIND.score("red", None) == 0


@pytest.mark.parametrize(("kind", "told"), [("object color", True), ("presence", False)])
def test_the_rule_is_named_beside_the_figures(tmp_path, capsys, kind, told):
    line = {"image": "a", "question": "Is it?", "type": kind, "answer": "no", "prediction": "no"}
    path = tmp_path / "predictions.jsonl"
    path.write_text(json.dumps(line))
    assert main(["score", str(path)]) == 0
    assert (RULE in " ".join(capsys.readouterr().out.split())) == told
    assert main(["report", "--after", str(path), "-o", str(tmp_path)]) == 0
    assert (RULE in (tmp_path / "report.md").read_text("utf-8")) == told
