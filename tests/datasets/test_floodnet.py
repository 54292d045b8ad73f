"""FloodNet-VQA: its files are recognised and read, its answers normalised and scored."""

import json
import os
from pathlib import Path

import pytest

from factory import write_image
from qwen2vl_rs.cli import main
from qwen2vl_rs.datasets.keyed_rows import Keys
from qwen2vl_rs.datasets.left_out import LeftOut
from qwen2vl_rs.datasets.reading import read_samples
from qwen2vl_rs.errors import DataError
from qwen2vl_rs.questions.answer_sets import answer_sets
from qwen2vl_rs.questions.protocols import protocol

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "floodnet" / "Question.json"
ASKED = [
    (
        "6.JPG",
        "What is the overall condition of the given image?",
        "flooded",
        "Condition_Recognition",
    ),
    ("6.JPG", "Is the entire road flooded?", "No", "Yes_No"),
    ("7.JPG", "How many non flooded buildings can be seen in this image?", 3, "Complex_Counting"),
    ("7.JPG", "How many buildings are in the image?", "12", "Simple_Counting"),
]


def record(image, question, answer, kind):
    return {
        "Image_ID": image, "Question": question, "Ground_Truth": answer, "Question_Type": kind,
    }  # fmt: skip


def written(folder: Path, records) -> Path:
    path = folder / "Training Question.json"
    path.write_text(json.dumps({str(n): one for n, one in enumerate(records)}))
    return path


def test_questions_of_the_published_form_are_read(tmp_path, capsys):
    image = tmp_path / "Train_Image" / "6.JPG"
    image.parent.mkdir()
    write_image(image, 32, 1)
    unanswered = {"Image_ID": "7.JPG", "Question": "How many?", "Question_Type": "Simple_Counting"}
    data = read_samples(written(tmp_path, [*(record(*one) for one in ASKED), unanswered]))
    assert [(s.question, s.answer, s.type) for s in data] == [
        (question, str(answer), kind) for _, question, answer, kind in ASKED
    ]
    assert [s.image for s in data] == [
        *[str(tmp_path / "Train_Image" / "6.JPG")] * 2, *[str(tmp_path / "7.JPG")] * 2,
    ]  # fmt: skip
    assert data.distinct("dataset") == ["FloodNet"]
    assert [s.id for s in data] == [f"floodnet_{n}" for n in range(4)]
    assert "left out: 1 without an answer (question ids 4)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"Ground_Truth": True}, '"Ground_Truth" is neither text nor a whole number'),
        ({"Ground_Truth": 2.5}, '"Ground_Truth" is neither text nor a whole number'),
        ({"Question": 7}, '"Question" is a whole number, expected text'),
        ({"Image_ID": None}, '"Image_ID" is null, expected text'),
    ],
)
def test_what_is_wrong_is_named_with_its_record(tmp_path, change, said):
    path = written(tmp_path, [record(*ASKED[0]), {**record(*ASKED[1]), **change}])
    with pytest.raises(DataError, match=f"record 2: {said}"):
        read_samples(path)


def test_categories_may_be_types_that_exist(tmp_path, capsys):
    keys = Keys("Pond", "image", "question", "answer", "kind", (), {"how many": "count"})
    records = [
        (None, {"image": "a.png", "question": "?", "answer": 3, "kind": kind})
        for kind in ("how many", "How many", "presence", "why")
    ]
    rows = keys.rows(tmp_path / "x.json", records, False, LeftOut())
    assert [row[4] for row in rows] == ["count", "count", "presence", "why"]
    said = capsys.readouterr().err
    assert "1 question of a type unknown in Pond, 'why'" in said
    assert "how many" not in said


def test_json_lines_are_not_taken_for_the_object(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(json.dumps(record(*one)) + "\n" for one in ASKED))
    with pytest.raises(DataError, match="contains no questions"):
        read_samples(path)


def test_a_member_that_is_no_object_is_refused(tmp_path):
    path = written(tmp_path, [record(*ASKED[0]), [1]])
    with pytest.raises(DataError, match="record 2 is a list, expected an object"):
        read_samples(path)


def test_a_file_that_is_cut_is_not_passed_over(tmp_path):
    path = written(tmp_path, [record(*one) for one in ASKED])
    whole = path.read_text()
    for end in (len(whole) - 1, len(whole) - 30, whole.index('"1"')):
        path.write_text(whole[:end])
        with pytest.raises(DataError, match="is truncated"):
            read_samples(path)
    path.write_text(f"{whole} {{}}")
    with pytest.raises(DataError, match="something follows the end"):
        read_samples(path)
    path.write_text(whole.replace('"3": ', '"2": '))
    with pytest.raises(DataError, match="the id 'floodnet_2' is a duplicate"):
        read_samples(path)


def test_predictions_are_scored_by_type(tmp_path, capsys):
    lines = [
        {"image": i, "question": q, "answer": str(a), "type": k, "prediction": p}
        for (i, q, a, k), p in zip(ASKED, ("flooded", "Yes", "3", "11"), strict=True)
    ]
    path = tmp_path / "predictions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["score", str(path), "--dataset", "FloodNet", "--json"]) == 0
    types = json.loads(capsys.readouterr().out)["protocols"]["official"]["types"]
    assert {name: one["accuracy"] for name, one in types.items()} == {
        "condition": 1, "Yes_No": 0, "Simple_Counting": 0, "Complex_Counting": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "kind", "found"),
    [
        ("Yes, it is.", "Yes_No", "yes"),
        ("There are 3 buildings", "Simple_Counting", "3"),
        ("three", "Complex_Counting", "3"),
        ("many", "Complex_Counting", None),
    ],
)
def test_answers_have_a_normal_form(answer, kind, found):
    assert protocol("official").to_class(answer, kind, "FloodNet") == found
    assert answer_sets((), "FloodNet")["Yes_No"].texts == ("no", "yes")


@pytest.mark.skipif(not REAL.is_file(), reason="no published sample beside the checkout")
def test_the_published_questions():
    data = read_samples(REAL)
    assert len(data) == 150
    to_class = protocol("official").to_class
    assert all(to_class(s.answer, s.type, "FloodNet") is not None for s in data)
    assert {to_class(s.answer, s.type, "FloodNet") for s in data if s.type[:9] == "Condition"} == {
        "flooded", "non flooded",
    }  # fmt: skip
    assert os.path.dirname(data[0].image) == str(REAL.parent)
