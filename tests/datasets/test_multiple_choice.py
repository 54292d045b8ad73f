"""Multiple choice: rows of four data sets are recognised and read, letters scored by task.

CHOICE is read from its published sample too; the forms of the others are those of the published
loaders, their data are not at hand.
"""

import json
import os
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from factory import write_image
from qwen2vl_rs.cli import main
from qwen2vl_rs.datasets.reading import read_samples
from qwen2vl_rs.errors import DataError
from qwen2vl_rs.models.location import locate
from qwen2vl_rs.predict.evaluation import evaluate
from qwen2vl_rs.questions.choice import options
from qwen2vl_rs.questions.normal_forms import normalise
from qwen2vl_rs.scoring.predictions import read_predictions

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "choice"
CHOICE = {
    "id": "e8", "image_path": "perception/scene/images/1.png", "answer": "B",
    "question": "Which scene?\nA.road\nB.can't judge\nC.park",
}  # fmt: skip
GEOBENCH = {
    "Image": "Images/2.png", "Question": "How many ships?",
    "Options_List": ["1", "2", "3", "4", "5"],
    "Ground_Truth_Option": "D", "Task": "Ship Counting", "Question_ID": 7, "Question_Number": 2,
}  # fmt: skip
XLRS = {
    "index": 3, "image": ["3.png"], "question": "Which land uses?", "category": "Land use",
    "multi-choice options": ["(A) farm", "(B) town", "(C) sea"], "answer": "AC",
}  # fmt: skip
MME = {
    "Question_id": "rs/1", "Image": "4.png", "Text": "What colour?", "Ground truth": "E",
    "Answer choices": ["(A) red", "(B) blue", "(C) white", "(D) grey", "(E) Not in the image"],
    "Category": "color", "Subtask": "Remote Sensing", "Task": "Perception",
}  # fmt: skip


def written(folder: Path, records, name="rows.json") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(records))
    return path


@pytest.mark.parametrize(
    ("record", "name", "expected"),
    [
        (CHOICE, "x.json", ("choice_e8", CHOICE["question"], "B", "choice/scene", "CHOICE")),
        (
            GEOBENCH, "x.json",
            ("geobench-vlm_7_2", "How many ships?\nA. 1\nB. 2\nC. 3\nD. 4\nE. 5", "D",
             "choice/Ship Counting", "GEOBench-VLM"),
        ),
        (
            XLRS, "XLRS-Bench-lite.json",
            ("xlrs-bench-lite_3", "Which land uses?\n(A) farm\n(B) town\n(C) sea", "A,C",
             "choice/Land use", "XLRS-Bench-lite"),
        ),
        (
            XLRS, "XLRS-Bench/x.json",
            ("xlrs-bench-lite_3", "Which land uses?\n(A) farm\n(B) town\n(C) sea", "A,C",
             "choice/Land use", "XLRS-Bench-lite"),
        ),
        (
            {**XLRS, "image": "sea/3.png", "category": None}, "x.json",
            ("choice_3", "Which land uses?\n(A) farm\n(B) town\n(C) sea", "A,C", "choice", ""),
        ),
        (
            XLRS, "x.json",
            ("choice_3", "Which land uses?\n(A) farm\n(B) town\n(C) sea", "A,C",
             "choice/Land use", ""),
        ),
        (
            MME, "x.json",
            ("mme-realworld-rs_rs/1", "What colour?\n(A) red\n(B) blue\n(C) white\n(D) grey\n"
             "(E) Not in the image", "E", "choice/color", "MME-RealWorld-RS"),
        ),
    ],
)  # fmt: skip
def test_each_form_is_read(tmp_path, record, name, expected):
    (one,) = read_samples(written(tmp_path, [record], name))
    assert (one.id, one.question, one.answer, one.type, one.dataset) == expected


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"Options_List": ["A. 1", "B. 2"], "Ground_Truth_Option": "(B)"}, ("A. 1\nB. 2", "B")),
        ({"Options_List": "A. 1\nB. 2", "Ground_Truth_Option": "b"}, ("A. 1\nB. 2", "B")),
        ({"Options_List": "['1', '2']", "Ground_Truth_Option": 2}, ("A. 1\nB. 2", "B")),
        ({"Options_List": {"A": 1, "B": 2}, "Ground_Truth_Option": "B. 2"}, ("A. 1\nB. 2", "B")),
        ({"Options_List": [1, 2], "Ground_Truth_Option": ["B", "A"]}, ("A. 1\nB. 2", "A,B")),
    ],
)
def test_spellings_of_options_and_answers(tmp_path, change, said):
    (one,) = read_samples(written(tmp_path, [{**GEOBENCH, **change}]))
    assert (one.question.split("\n", 1)[1], one.answer) == said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"Ground_Truth_Option": "F"}, "its answer 'F' is not a letter of its options"),
        ({"Ground_Truth_Option": 9}, "its answer '9' is not a letter of its options"),
        ({"Ground_Truth_Option": True}, "its answer 'True' is not a letter of its options"),
        ({"Options_List": [["1"]]}, "its options are neither a list of texts nor lines"),
        ({"Options_List": None}, "its options are neither a list of texts nor lines"),
        ({"Options_List": ["1"] * 27}, "its options are neither a list of texts nor lines"),
        ({"Question": 7}, "its question is a whole number, expected text"),
        ({"Image": {"bytes": "…"}}, "the image is not a path"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, change, said):
    with pytest.raises(DataError, match=f"record 2: {said}"):
        read_samples(written(tmp_path, [GEOBENCH, {**GEOBENCH, **change}]))


@pytest.mark.parametrize(
    ("texts", "number", "letter"),
    [
        (["3", "1", "2"], 1, None),
        (["1", "2", "3"], 2, None),
        (["10", "20", "30"], 20, "B"),
        (["1", "2"], 2, "B"),
    ],
)
def test_a_number_that_is_a_place_or_a_text_is_refused(tmp_path, texts, number, letter):
    path = written(tmp_path, [{**GEOBENCH, "Options_List": texts, "Ground_Truth_Option": number}])
    if letter:
        assert read_samples(path)[0].answer == letter
        return
    with pytest.raises(DataError, match=f"record 1: its answer {number} is the text of") as found:
        read_samples(path)
    assert found.value.hint == "write the letter of the option as answer"


PLAIN = {"image": "1.png", "question": "Is there a road?", "answer": "yes", "type": "presence"}
NO_SHIP = {**PLAIN, "question": "Is there a ship?", "answer": "NO"}


@pytest.mark.parametrize("image", ["image", "image_path"])
@pytest.mark.parametrize("lines", [False, True])
def test_records_without_options_stay_plain(tmp_path, image, lines):
    asked = {**PLAIN, "question": "Which is it? A. road B. park", "answer": "B", "type": ""}
    how_many = {**PLAIN, "question": "How many?", "answer": 3, "type": "count"}
    rows = [asked, PLAIN, NO_SHIP, how_many]
    rows = [{image: row["image"], **{k: row[k] for k in row if k != "image"}} for row in rows]
    path = written(tmp_path, rows)
    if lines:
        as_jsonl(path, rows)
    found = [(s.question, s.answer, s.type, s.dataset) for s in read_samples(path)]
    assert found == [
        (asked["question"], "B", "choice", ""),
        (PLAIN["question"], "yes", "presence", ""),
        (NO_SHIP["question"], "NO", "presence", ""),
        ("How many?", "3", "count", ""),
    ]


@pytest.mark.parametrize(
    ("record", "change"),
    [
        (CHOICE, {"question": "Which scene?"}),
        (XLRS, {"multi-choice options": None}),
        (XLRS, {"multi-choice options": None, "answer": ["A", "C"]}),
        (GEOBENCH, {"Options_List": None, "Ground_Truth_Option": "4"}),
    ],
)
def test_a_letter_without_its_options_is_refused(tmp_path, record, change):
    rows = [record, {**record, **change, "id": "bad", "index": 9}]
    with pytest.raises(DataError, match=r"record 2 .*: its options are neither"):
        read_samples(written(tmp_path, rows))


def test_what_is_left_out_is_counted(tmp_path, capsys):
    rows = [
        {**GEOBENCH, "Question_ID": n, **change}
        for n, change in enumerate(
            (
                {"Task": None},
                {"Image": ["1.png", "2.png"]},
                {"Image": "['1.png', '2.png']"},
                {"Image": None, "Image1": "1.png", "Image2": "2.png"},
                {"Image": ""},
                {"Ground_Truth_Option": None},
            )
        )
    ]
    del rows[0]["Task"]
    assert len(read_samples(written(tmp_path, rows))) == 1
    said = capsys.readouterr().err
    assert "3 about several images (question ids 1_2, 2_2, 3_2)" in said
    assert "1 that name no image (question ids 4_2)" in said
    assert "1 without an answer (question ids 5_2)" in said
    other = {**MME, "Question_id": "d/1", "Subtask": "Autonomous_Driving"}
    assert len(read_samples(written(tmp_path, [MME, other]))) == 1
    assert "1 of another subtask than Remote Sensing (question ids d/1)" in capsys.readouterr().err


def test_images_lie_beside_the_file_or_above_it(tmp_path):
    image = tmp_path / CHOICE["image_path"]
    image.parent.mkdir(parents=True)
    write_image(image, 32, 1)
    path = written(tmp_path, [CHOICE], "perception/scene/scene.json")
    assert read_samples(path)[0].image == str(image)


def test_letters_are_chosen_with_exact_probabilities_and_scored_by_task(tmp_path, small_base):
    rows = []
    for n in range(4):
        write_image(tmp_path / f"{n}.png", 56, n)
        asked = "Which?\nA. road\nB. park" + "\nC. pond" * (n % 2)
        rows.append({**CHOICE, "id": n, "image_path": f"{n}.png", "question": asked})
    path = written(tmp_path, rows)
    out = tmp_path / "eval"
    found = evaluate(locate(small_base), ("eval.answers=closed",), test=path, output=out)[0]
    assert list(found["protocols"]["official"]["types"]) == ["choice"]
    told = read_predictions(out / "predictions.jsonl")
    assert all(p.prediction in options(p.question) and not p.unreadable for p in told)
    assert all(1 / 3 <= p.confidence <= 1 for p in told)


def test_predictions_are_scored_by_task(tmp_path, capsys):
    said = ("B. can't judge", "4", "C and A", "(E)")
    paths = [
        written(tmp_path, [one], f"{n}.json") for n, one in enumerate((CHOICE, GEOBENCH, XLRS, MME))
    ]
    samples = [sample for path in paths for sample in read_samples(path)]
    lines = [
        {"image": s.image, "question": s.question, "answer": s.answer, "type": s.type,
         "prediction": p}
        for s, p in zip(samples, said, strict=True)
    ]  # fmt: skip
    path = tmp_path / "predictions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["score", str(path), "--json"]) == 0
    types = json.loads(capsys.readouterr().out)["protocols"]["official"]["types"]
    assert {name: one["accuracy"] for name, one in types.items()} == {
        "choice/scene": 1, "choice/Ship Counting": 1, "choice/Land use": 1, "choice/color": 1,
    }  # fmt: skip


@pytest.mark.skipif(not REAL.is_dir(), reason="no published sample beside the checkout")
def test_the_published_sample():
    tasks = set()
    for path in REAL.rglob("*.json"):
        data = read_samples(path)
        assert len(data) == 20
        assert all(os.path.isfile(s.image) and len(options(s.question)) == 4 for s in data)
        for s in data:
            for letter, text in options(s.question).items():
                for said in (letter, f"({letter})", f"{letter}. {text}", text):
                    assert normalise(said, s.type, s.question) == letter
        tasks |= set(data.distinct("type"))
    assert len(tasks) == 4


def as_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def as_parquet(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)


def as_tsv(path, rows):
    lines = ["\t".join(rows[0])]
    lines += ["\t".join(str(value).replace("'", '"') for value in row.values()) for row in rows]
    path.write_text("\n".join(lines) + "\n")


def as_xlsx(path, rows):
    book = openpyxl.Workbook()
    book.active.append(list(rows[0]))
    for row in rows:
        book.active.append([str(value) for value in row.values()])
    book.save(path)


@pytest.mark.parametrize("write", [as_jsonl, as_parquet, as_tsv, as_xlsx])
def test_rows_come_in_any_kind_of_table(tmp_path, write):
    (tmp_path / "Images").mkdir()
    write_image(tmp_path / "Images/2.png", 56, 1)
    rows = [GEOBENCH | {"Question_ID": n} for n in (1, 2)]
    path = tmp_path / f"rows{write.__name__}"
    write(path, rows)
    found = list(read_samples(path))
    assert [s.id for s in found] == ["geobench-vlm_1_2", "geobench-vlm_2_2"]
    assert {(s.answer, s.type, s.dataset) for s in found} == {
        ("D", "choice/Ship Counting", "GEOBench-VLM")
    }
    assert options(found[0].question) == dict(zip("ABCDE", "12345", strict=True))
    assert os.path.samefile(found[0].image, tmp_path / "Images/2.png")


def test_images_inside_a_file_are_written_beside_it(tmp_path):
    write_image(tmp_path / "a.tif", 56, 1)
    content = (tmp_path / "a.tif").read_bytes()
    rows = [XLRS | {"index": n, "image": [{"bytes": content, "path": "a.tif"}]} for n in (1, 2)]
    path = tmp_path / "XLRS-Bench-lite.parquet"
    as_parquet(path, rows)
    found = list(read_samples(path))
    assert {s.dataset for s in found} == {"XLRS-Bench-lite"}
    (image,) = {s.image for s in found}
    assert Path(image).read_bytes() == content
    assert Path(image).parent == tmp_path / "XLRS-Bench-lite_images"
