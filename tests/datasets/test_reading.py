import json
import os
from pathlib import Path

import pytest

from qwen2vl_rs.datasets.reading import csv2json, data2csv, read_samples
from qwen2vl_rs.datasets.tables import read_conversations, write_conversations, write_csv
from qwen2vl_rs.errors import DataError
from qwen2vl_rs.types import Sample

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SAMPLES = [
    Sample("rsvqa_1", "/data/2.tif", "Is there a road?", "yes", "presence"),
    Sample("rsvqa_2", "/data/3.tif", "有多少建筑?", "47", "count"),
]


@pytest.fixture
def official(tmp_path):
    """Five questions: two usable, a stub, one without an answer, one without an image."""
    records = [
        {"id": k, "img_id": image, "question": text, "type": "presence", "answers_ids": [k]}
        for k, image, text in [(1, 2, "Is there a road?"), (2, 3, 'Is it, "well"?'), (3, 2, "A?")]
    ]
    records += [{"id": 0, "active": False}, records[0] | {"id": 4, "img_id": 9, "answers_ids": [4]}]
    answers = [{"id": k, "question_id": k, "answer": f"no {k}"} for k in (1, 2, 4)]
    (tmp_path / "LR_split_val_questions.json").write_text(json.dumps({"questions": records}))
    (tmp_path / "LR_split_val_answers.json").write_text(json.dumps({"answers": answers}))
    (tmp_path / "LR_split_val_images.json").write_text("ignored")
    (tmp_path / "Images_LR").mkdir()
    for k in (2, 3):
        (tmp_path / "Images_LR" / f"{k}.tif").touch()
    return tmp_path


def convert(folder, out, with_type=False):
    return data2csv(
        folder / "LR_split_val_questions.json",
        folder / "LR_split_val_answers.json",
        folder / "Images_LR",
        out,
        with_type,
    )


LEFT_OUT = [
    "left out: 1 without an answer (question ids 3)",
    "left out: 1 inactive (question ids 0)",
    "left out: 1 without an image (image ids 9)",
]


def test_data2csv_says_what_it_wrote_and_what_it_left_out(official, capsys):
    out = official / "rsvqa-dataset.csv"
    report = convert(official, out)
    images = official / "Images_LR"
    assert out.read_text() == (
        "image_path,question,answer\n"
        f"{images}/2.tif,Is there a road?,no 1\n"
        f'{images}/3.tif,"Is it, ""well""?",no 2\n'
    )
    assert (report.path, report.written, report.images) == (out, 2, 2)
    said = capsys.readouterr()
    assert said.out == ""
    first, *others = said.err.splitlines()
    assert first == f"wrote 2 questions about 2 images to {out}"
    assert sorted(others) == sorted(LEFT_OUT)


def test_types_are_written_when_asked_for(official):
    convert(official, official / "t.csv", with_type=True)
    assert [s.type for s in read_samples(official / "t.csv")] == ["presence", "presence"]


def test_csv2json_carries_every_sample_on(official, capsys):
    convert(official, official / "t.csv")
    capsys.readouterr()
    report = csv2json(official / "t.csv", official / "data_vl.json")
    assert (report.written, report.images, report.left_out.lines()) == (2, 2, [])
    expected = f"wrote 2 questions about 2 images to {official / 'data_vl.json'}\n"
    assert capsys.readouterr().err == expected
    assert list(read_conversations(official / "data_vl.json")) == list(
        read_samples(official / "t.csv")
    )


def test_a_failed_conversion_leaves_the_old_file(official):
    out = official / "t.csv"
    out.write_text("old")
    answers = official / "LR_split_val_answers.json"
    answers.write_text(answers.read_text()[:-5])
    with pytest.raises(DataError, match="is truncated"):
        convert(official, out)
    assert out.read_text() == "old"
    assert not list(official.glob(".*"))


@pytest.mark.parametrize(
    "name", ["LR_split_val_questions.json", "LR_split_val_answers.json", "Images_LR/2.tif"]
)
def test_data2csv_spares_its_inputs(official, name):
    """Under any name: links lead to the same file."""
    before = (official / name).read_bytes()
    outputs = [official / name]
    if name.endswith(".json"):
        (official / "soft").symlink_to(official / name)
        (official / "hard").hardlink_to(official / name)
        outputs += [official / "soft", official / "hard"]
    for out in outputs:
        with pytest.raises(DataError, match="would overwrite an input") as caught:
            convert(official, out)
        assert "--output" in caught.value.hint
        assert (official / name).read_bytes() == before


def test_csv2json_spares_its_input(tmp_path):
    path = tmp_path / "t.csv"
    write_csv(path, SAMPLES, with_type=True)
    before = path.read_bytes()
    with pytest.raises(DataError, match="would overwrite an input"):
        csv2json(path, tmp_path / ".." / tmp_path.name / "t.csv")
    assert path.read_bytes() == before


def test_a_second_run_may_replace_the_first_output(official):
    convert(official, official / "Images_LR" / "t.csv")
    assert convert(official, official / "Images_LR" / "t.csv").written == 2


def test_nothing_to_write_makes_no_file(official):
    for image in (official / "Images_LR").iterdir():
        image.unlink()
    with pytest.raises(DataError, match="3 without an image"):
        convert(official, official / "t.csv")
    assert not (official / "t.csv").exists()


@pytest.mark.parametrize("name", ["a", "a.csv", "a.json", "a.txt"])
def test_files_are_recognised_by_content_not_by_name(tmp_path, name):
    write_csv(tmp_path / name, SAMPLES, with_type=True)
    assert list(read_samples(tmp_path / name)) == SAMPLES
    write_conversations(tmp_path / name, SAMPLES)
    assert list(read_samples(tmp_path / name)) == SAMPLES


def test_official_files_are_read_with_what_lies_beside_them(official, capsys):
    samples = list(read_samples(official / "LR_split_val_questions.json"))
    assert [(Path(s.image).name, s.answer) for s in samples] == [
        ("2.tif", "no 1"),
        ("3.tif", "no 2"),
    ]
    assert sorted(capsys.readouterr().err.splitlines()) == sorted(LEFT_OUT)


def test_one_is_said_in_the_singular(tmp_path, capsys):
    write_csv(tmp_path / "t.csv", SAMPLES[:1], with_type=False)
    csv2json(tmp_path / "t.csv", tmp_path / "t.json")
    expected = f"wrote 1 question about 1 image to {tmp_path / 't.json'}\n"
    assert capsys.readouterr().err == expected


def test_official_questions_under_another_name(official):
    renamed = (official / "LR_split_val_questions.json").rename(official / "mine.json")
    with pytest.raises(DataError, match="cannot tell which answers belong to") as caught:
        list(read_samples(renamed))
    assert "--answers" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"answers": [{"id": 1}]}', "contains no questions"),
        ('{"id": "x", "question": "?"}', "its first key is 'id'"),
        ("{}", "contains no questions"),
        ("plain words\n", "lacks the column"),
        ("[1]", "record 1 is a whole number"),
        ("", "is empty"),
    ],
)
def test_other_files_are_refused(tmp_path, text, said):
    (tmp_path / "x").write_text(text)
    with pytest.raises(DataError) as caught:
        list(read_samples(tmp_path / "x"))
    assert said in caught.value.message


def test_files_that_are_none(tmp_path):
    with pytest.raises(DataError, match="no file"):
        list(read_samples(tmp_path / "absent.csv"))
    with pytest.raises(DataError, match="cannot read"):
        list(read_samples(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "link", Path("/dev/zero")):
        with pytest.raises(DataError, match="is not a regular file"):
            list(read_samples(path))


@pytest.mark.skipif(not SHARED.is_dir(), reason="no real RSVQA data in ../shared/data")
def test_real_questions_come_through_every_format_alike(tmp_path):
    questions = SHARED / "rsvqa-hr" / "USGS_split_val_questions.json"
    samples = list(read_samples(questions))
    answers = questions.with_name("USGS_split_val_answers.json")
    data2csv(questions, answers, SHARED / "rsvqa-hr" / "Data", tmp_path / "t.csv", with_type=True)
    csv2json(tmp_path / "t.csv", tmp_path / "t.json")
    assert list(read_samples(tmp_path / "t.csv")) == samples
    assert list(read_samples(tmp_path / "t.json")) == samples
    assert len(samples) == 1101
