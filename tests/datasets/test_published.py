"""Data sets that are not RSVQA, each in its published form: the same commands, the same faults."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from factory import write_image
from qwen2vl_rs.cli import main
from qwen2vl_rs.datasets.reading import published_in, read_samples
from qwen2vl_rs.datasets.table_notes import read_note
from qwen2vl_rs.errors import DataError
from qwen2vl_rs.known_datasets import all_datasets
from qwen2vl_rs.scoring.predictions import write_predictions
from qwen2vl_rs.types import Prediction


def floodnet(rows):
    """Of (image, kind, question, answer)."""
    kinds = {"yes": "Yes_No", "count": "Simple_Counting"}
    return {
        str(n): {"Image_ID": i, "Question": q, "Ground_Truth": a, "Question_Type": kinds.get(k, k)}
        for n, (i, k, q, a) in enumerate(rows)
    }


def vrsbench(rows):
    kinds = {"yes": "object existence", "count": "object quantity"}
    return [
        {"question_id": n, "image_id": i, "type": kinds.get(k, k), "question": q, "ground_truth": a}
        for n, (i, k, q, a) in enumerate(rows)
    ]


def earthvqa(rows):
    kinds, found = {"yes": "Basic Judging", "count": "Basic Counting"}, {}
    for i, k, q, a in rows:
        found.setdefault(i, []).append({"Type": kinds.get(k, k), "Question": q, "Answer": a})
    return found


def _options(answer):
    """Options, and which of them is right."""
    texts = ["yes", "no"] if answer in ("yes", "no") else ["1", "2", "3", "can't judge"]
    return texts, "ABCD"[texts.index(str(answer))]


def choice(rows):
    found = []
    for n, (i, k, q, a) in enumerate(rows):
        texts, letter = _options(a)
        lines = "".join(f"\n{mark}.{text}" for mark, text in zip("ABCD", texts, strict=False))
        path = f"perception/{k}/images/{i}"
        found.append({"id": f"e{n}", "image_path": path, "question": q + lines, "answer": letter})
    return found


def geobench(rows):
    found = []
    for n, (i, k, q, a) in enumerate(rows):
        texts, letter = _options(a)
        found.append(
            {"Image": i, "Question": q, "Options_List": texts, "Ground_Truth_Option": letter,
             "Task": k, "Question_ID": n, "Question_Number": 1}
        )  # fmt: skip
    return found


def xlrs(rows):
    found = []
    for n, (i, k, q, a) in enumerate(rows):
        texts, letter = _options(a)
        lines = [f"({mark}) {text}" for mark, text in zip("ABCD", texts, strict=False)]
        found.append(
            {"index": n, "image": [i], "question": q, "multi-choice options": lines,
             "answer": letter, "category": k}
        )  # fmt: skip
    return found


def mme(rows):
    found = []
    for n, (i, k, q, a) in enumerate(rows):
        texts, letter = _options(a)
        lines = [f"({mark}) {text}" for mark, text in zip("ABCD", texts, strict=False)]
        found.append(
            {"Question_id": n, "Image": i, "Text": q, "Answer choices": lines,
             "Ground truth": letter, "Category": k, "Subtask": "Remote Sensing"}
        )  # fmt: skip
    return found


SETS = {
    "FloodNet": floodnet, "VRSBench": vrsbench, "EarthVQA": earthvqa, "CHOICE": choice,
    "GEOBench-VLM": geobench, "XLRS-Bench-lite": xlrs, "MME-RealWorld-RS": mme,
}  # fmt: skip
KEYED = ("FloodNet", "VRSBench", "EarthVQA")
RSVQA_SETS = ("LR", "HR", "xBEN")
each = pytest.mark.parametrize("name", SETS)


def asked(images, numbers=int):
    """Four questions an image, whose answers go by the question alone."""
    return [
        (image, *one)
        for image in images
        for one in (
            ("yes", "Is there a road?", "yes"),
            ("yes", "Is there a ship?", "no"),
            ("count", "How many roads are there?", numbers(3)),
            ("count", "How many ships are there?", numbers(2)),
        )
    ]


def written(folder: Path, name: str, images, split="train", **kinds) -> Path:
    path = folder / f"{name}_{split}.json"
    path.write_text(json.dumps(SETS[name](asked(images, **kinds))))
    return path


def test_every_published_format_is_among_the_sets():
    assert list(SETS) == [n for n, one in all_datasets().items() if one.name not in RSVQA_SETS]


@pytest.fixture
def there(tmp_path, monkeypatch):
    """A current folder with images."""
    monkeypatch.chdir(tmp_path)
    for n in range(3):
        write_image(tmp_path / f"{n}.png", 32, n)
    return tmp_path


def told(samples):
    return [(s.image, s.question, s.answer, s.type, s.dataset) for s in samples]


@each
def test_a_table_and_conversations_keep_types_and_data_set(there, name, capsys):
    path = written(there, name, [f"{n}.png" for n in range(3)])
    if name == "CHOICE":
        path.write_text(path.read_text().replace("perception/", "").replace("/images", ""))
        for kind in ("yes", "count"):
            (there / kind).mkdir()
            for n in range(3):
                (there / kind / f"{n}.png").write_bytes((there / f"{n}.png").read_bytes())
    data = told(read_samples(path))
    assert {one[-1] for one in data} == {name}
    for arguments in (["--questions", path.name], ["--folder", "."], ["--questions", path.name,
                      "--dataset", name.lower()]):  # fmt: skip
        assert main(["data2csv", *arguments, "-o", "table.csv"]) == 0
        assert read_note(there / "table.csv").dataset == name
        assert main(["csv2json", "-i", "table.csv", "-o", "from-table.json"]) == 0
        assert told(read_samples(there / "from-table.json")) == data
    assert main(["csv2json", "--input", path.name, "-o", "direct.json"]) == 0
    assert told(read_samples(there / "direct.json")) == data
    assert "not found" not in capsys.readouterr().err
    other = "VRSBench" if name != "VRSBench" else "FloodNet"
    for command in (
        ["data2csv", "--questions", path.name],
        ["csv2json", "-i", path.name],
        ["csv2json", "-i", "table.csv"],
        ["export", "--data", path.name, "--form", "trl", "-o", "out"],
        ["train", "--data", path.name],
        ["eval", "MODEL", "--test", path.name],
    ):
        assert main([*command, "--dataset", other]) == 1
        assert f"not of {other}" in capsys.readouterr().err


@each
def test_what_is_held_out_has_a_table_of_its_own(there, name, capsys):
    split = {"FloodNet": "valid", "VRSBench": "eval", "EarthVQA": "val"}.get(name, "test")
    path = written(there, name, ["0.png"], split)
    assert main(["data2csv", "--questions", path.name]) == 0
    assert (there / f"rsvqa-dataset-{split}.csv").is_file()
    assert f"--output rsvqa-dataset-{split}.json" in capsys.readouterr().err
    assert main(["csv2json", "-i", path.name]) == 0
    assert "next: qwen2vl-rs eval MODEL --test data_vl.json" in capsys.readouterr().err


@each
def test_all_baselines_work_on_it(there, name, capsys):
    train = written(there, name, ["7.png", "8.png", "9.png"])
    test = list(read_samples(written(there, name, ["0.png", "1.png"], "test")))
    for kind, wrong in (("own", ()), ("other", range(0, 8, 2))):
        write_predictions(
            there / f"{kind}.jsonl",
            [
                Prediction(
                    s.id, s.image, s.question, s.type, s.answer, "?" if n in wrong else s.answer,
                    dataset=s.dataset,
                )
                for n, s in enumerate(test)
            ],
        )  # fmt: skip
    command = ["score", "own.jsonl", "--train-questions", train.name, "--shuffled", "other.jsonl"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["dataset"] == name
    assert found["unreadable_truth"] == 0
    scores = {k: one["official"]["OA"] for k, one in found["controls"].items()}
    assert found["protocols"]["official"]["OA"] == 1
    assert scores == {"constant": 0.5, "question_only": 1, "shuffled_image": 0.5}
    assert main(["report", "--after", "own.jsonl", "--train-questions", train.name]) == 0
    assert name in (there / "report.md").read_text("utf-8")


@each
def test_images_that_are_not_there_are_counted(there, name, capsys):
    path = written(there, name, ["5.png", "6.png", "7.png"])
    assert main(["data2csv", "--questions", path.name]) == 0
    images = 6 if name == "CHOICE" else 3
    assert f"{images} of {images} images not found" in capsys.readouterr().err
    assert main(["train", "--data", path.name]) == 1
    said = capsys.readouterr().err
    assert "5.png: no such file" in said
    assert "--images FOLDER" in said
    assert main(["data2csv", "--questions", path.name, "--images", "nowhere"]) == 1
    assert "no folder nowhere" in capsys.readouterr().err


@each
def test_numbers_and_texts_as_answers_are_the_same(there, name):
    data = [
        told(read_samples(written(there, name, ["0.png"], numbers=kind)))
        for kind in (int, str, *([float] if name in KEYED else []))
    ]
    assert all(one == data[0] for one in data)


@each
def test_an_id_that_stands_twice_is_refused(there, name):
    path = written(there, name, ["0.png"])
    if name == "FloodNet":
        path.write_text(path.read_text().replace('"1": {', '"0": {'))
    elif name == "EarthVQA":
        text = path.read_text()
        path.write_text(f"{text[:-1]}, {text[1:]}")
    else:
        records = json.loads(path.read_text())
        path.write_text(json.dumps([*records, records[0]]))
    with pytest.raises(DataError, match=r"the id '.*' is a duplicate"):
        read_samples(path)


@pytest.mark.parametrize("name", KEYED)
def test_a_type_that_is_not_known_is_counted(there, name, capsys):
    rows = [
        *asked(["0.png"]),
        ("0.png", "guessing", "Which?", "that"),
        ("0.png", "guessing", "?", "x"),
    ]
    path = there / "train.json"
    path.write_text(json.dumps(SETS[name](rows)))
    assert len(read_samples(path)) == 6
    assert f"2 questions of a type unknown in {name}, 'guessing'" in capsys.readouterr().err


@pytest.mark.parametrize("name", KEYED)
def test_a_first_record_without_a_type_is_named(there, name):
    content = SETS[name](asked(["0.png"]))
    first = next(iter(content.values())) if isinstance(content, dict) else content[0]
    first = first[0] if isinstance(first, list) else first
    key = next(key for key in first if "type" in key.lower())
    del first[key]
    path = there / "train.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=f'record 1.*: "{key}" is missing'):
        read_samples(path)


def test_a_file_that_is_not_recognised_is_read_by_its_name(there, capsys):
    records = [{"image_id": "0.png", "question": "Which?", "type": "reasoning"}]
    (there / "bare.json").write_text(json.dumps(records))
    assert main(["csv2json", "-i", "bare.json"]) == 1
    assert "is a JSON list, not a CSV table" in capsys.readouterr().err
    assert main(["csv2json", "-i", "bare.json", "--dataset", "vrsbench"]) == 1
    said = capsys.readouterr().err
    assert "left out: 1 without an answer (question ids 1)" in said
    row = {"index": 1, "image": "0.png", "question": "?", "options": ["a", "b"], "answer": "A"}
    (there / "rows.json").write_text(json.dumps([row]))
    for given, found in ((None, ""), ("XLRS-Bench-lite", "XLRS-Bench-lite")):
        assert read_samples(there / "rows.json", dataset=given)[0].dataset == found


@pytest.mark.parametrize("suffix", ["jsonl", "parquet", "tsv"])
def test_a_file_of_rows_is_found_in_a_folder(there, suffix):
    records = mme(asked([f"{n}.png" for n in range(3)]))
    path = there / f"mme_test.{suffix}"
    predicted = {"image": "0.png", "question": "?\nA. x\nB. y", "answer": "A", "prediction": "A"}
    (there / "predictions.jsonl").write_text(json.dumps(predicted))
    (there / "notes.csv").write_text("a,b\n1,2\n")
    if suffix == "jsonl":
        path.write_text("".join(json.dumps(one) + "\n" for one in records))
    elif suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    else:
        rows = [records[0].keys(), *(one.values() for one in records)]
        path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    assert published_in(there) == path
    assert published_in(there, "test", "MME-RealWorld-RS") == path
    assert main(["data2csv", "--folder", "."]) == 0
    assert (there / "rsvqa-dataset-test.csv").is_file()


def test_of_several_files_in_a_folder_one_must_be_named(there, capsys):
    for split in ("train", "valid"):
        written(there, "FloodNet", ["0.png"], split)
    assert main(["data2csv", "--folder", "."]) == 1
    assert "several files: FloodNet_train.json, FloodNet_valid.json" in capsys.readouterr().err
    assert main(["data2csv", "--folder", ".", "--split", "valid"]) == 0
    assert (there / "rsvqa-dataset-valid.csv").is_file()
    assert main(["data2csv", "--folder", ".", "--split", "test"]) == 1
    assert "no file of the split 'test'" in capsys.readouterr().err
    assert main(["data2csv", "--questions", "FloodNet_train.json", "--answers", "x.json"]) == 2
    (there / "empty").mkdir()
    assert main(["data2csv", "--folder", "empty"]) == 1
    assert "no questions in empty" in capsys.readouterr().err
