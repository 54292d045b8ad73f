"""EarthVQA: the published form is recognised and read, its answers scored by type.

The form is that of the published loader; the data themselves are not at hand.
"""

import json
from pathlib import Path

import pytest

from factory import write_image
from qwen2vl_rs.cli import main
from qwen2vl_rs.datasets.reading import read_samples
from qwen2vl_rs.errors import DataError

ASKED = {
    "0.png": [
        ("Basic Judging", "Is it a rural or urban area?", "Rural"),
        ("Basic Counting", "How many ponds are there?", 3),
        ("Basic Counting", "What is the area of buildings?", "10%-20%"),
    ],
    "1.png": [
        ("Reasoning-based Judging", "Are there any eutrophic waters?", "No"),
        (
            "Comprehensive Analysis",
            "What are the land use types in this scene?",
            "There are residential, and industrial areas",
        ),
    ],
}


def published(asked=ASKED):
    fields = ("Type", "Question", "Answer")
    return {
        image: [dict(zip(fields, one, strict=True)) for one in rows]
        for image, rows in asked.items()
    }


def written(folder: Path, content) -> Path:
    path = folder / "Val_QA.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_the_published_form_is_read(tmp_path, capsys):
    (tmp_path / "Val" / "images_png").mkdir(parents=True)
    write_image(tmp_path / "Val" / "images_png" / "0.png", 32, 1)
    content = {"9.png": [], **published()}
    del content["1.png"][0]["Answer"], content["0.png"][0]["Type"]
    content["0.png"].insert(0, content["0.png"].pop(1))  # the first record has all fields
    content["0.png"][1]["Type"] = "Basic Judging"
    data = read_samples(written(tmp_path, content))
    assert [(s.id, s.type, s.answer) for s in data] == [
        ("earthvqa_0.png_1", "Basic Counting", "3"),
        ("earthvqa_0.png_2", "Basic Judging", "Rural"),
        ("earthvqa_0.png_3", "Basic Counting", "10%-20%"),
        ("earthvqa_1.png_2", "Comprehensive Analysis", ASKED["1.png"][1][2]),
    ]
    assert [s.image for s in data] == [
        *[str(tmp_path / "Val" / "images_png" / "0.png")] * 3,
        str(tmp_path / "1.png"),
    ]
    assert data.distinct("dataset") == ["EarthVQA"]
    assert "left out: 1 without an answer (question ids 1.png_1)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({**published(), "2.png": 7}, "'2.png' is a whole number, expected a list of questions"),
        ({**published(), "2.png": ["?"]}, "record 6 is text, expected an object"),
    ],
)
def test_what_is_no_list_of_questions_is_refused(tmp_path, content, said):
    with pytest.raises(DataError, match=said):
        read_samples(written(tmp_path, content))


def test_predictions_are_scored_by_type(tmp_path, capsys):
    said = iter(("rural area", "three", "10%", "No.", "industrial and residential"))
    lines = [
        {"image": i, "type": k, "question": q, "answer": a, "prediction": next(said)}
        for i, rows in ASKED.items()
        for k, q, a in rows
    ]
    path = tmp_path / "predictions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["score", str(path), "--dataset", "earthvqa", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    types = found["protocols"]["official"]["types"]
    assert {name: one["accuracy"] for name, one in types.items()} == {
        "Basic Judging": 1,
        "Reasoning-based Judging": 1,
        "Basic Counting": 0.5,
        "Comprehensive Analysis": 1,
    }
    assert found["counts"]["mae"] == 0
