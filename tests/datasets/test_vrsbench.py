"""VRSBench-VQA: the published form is recognised and read, and judged by the rule without a judge.

The form is that of the published loader; the data themselves are not at hand.
"""

import json
from pathlib import Path

import pytest

from factory import write_image
from qwen2vl_rs.cli import main
from qwen2vl_rs.datasets.reading import read_samples
from qwen2vl_rs.errors import DataError

ASKED = [
    ("P1.png", "object quantity", "How many ships are there?", "2"),
    ("P1.png", "object existence", "Is there a harbor?", "Yes"),
    ("P2.png", "object category", "What is at the top?", "small vehicle"),
    ("P2.png", "rural or urban", "Is it rural or urban?", "urban"),
]


def record(n, image, kind, question, answer):
    return {
        "question_id": n, "image_id": image, "type": kind, "question": question,
        "ground_truth": answer, "dataset": "DOTA",
    }  # fmt: skip


def written(folder: Path, records) -> Path:
    path = folder / "VRSBench_EVAL_vqa.json"
    path.write_text(json.dumps(records))
    return path


def test_the_published_form_is_read(tmp_path, capsys):
    (tmp_path / "Images_val").mkdir()
    write_image(tmp_path / "Images_val" / "P1.png", 32, 1)
    records = [record(n, *one) for n, one in enumerate(ASKED)]
    del records[3]["ground_truth"]
    data = read_samples(written(tmp_path, records))
    assert [(s.id, s.type, s.question, s.answer) for s in data] == [
        (f"vrsbench_{n}", kind, question, answer)
        for n, (_, kind, question, answer) in enumerate(ASKED[:3])
    ]
    assert [s.image for s in data] == [
        *[str(tmp_path / "Images_val" / "P1.png")] * 2, str(tmp_path / "P2.png"),
    ]  # fmt: skip
    assert data.distinct("dataset") == ["VRSBench"]
    assert "left out: 1 without an answer (question ids 3)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ground_truth": 1.5}, '"ground_truth" is neither text nor a whole number'),
        ({"question_id": [1]}, '"question_id" is neither text nor a whole number'),
        ({"type": 4}, '"type" is a whole number, expected text'),
    ],
)
def test_what_is_wrong_is_named(tmp_path, change, said):
    path = written(tmp_path, [record(0, *ASKED[0]), {**record(1, *ASKED[1]), **change}])
    with pytest.raises(DataError, match=f"record 2.*: {said}"):
        read_samples(path)


def test_an_id_that_stands_twice_is_refused(tmp_path):
    with pytest.raises(DataError, match="the id 'vrsbench_0' is a duplicate"):
        read_samples(written(tmp_path, [record(0, *one) for one in ASKED]))


def test_predictions_are_scored_by_its_rule(tmp_path, capsys):
    said = ("two", "yes, there is", "It is a small vehicle.", "rural")
    lines = [
        {"image": i, "type": k, "question": q, "answer": a, "prediction": p}
        for (i, k, q, a), p in zip(ASKED, said, strict=True)
    ]
    path = tmp_path / "predictions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["score", str(path), "--dataset", "vrsbench", "--json"]) == 0
    types = json.loads(capsys.readouterr().out)["protocols"]["official"]["types"]
    assert {name: one["accuracy"] for name, one in types.items()} == {
        "object category": 1, "object existence": 1, "object quantity": 1, "rural_urban": 0,
    }  # fmt: skip
