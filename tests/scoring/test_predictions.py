"""Reading and writing ``predictions.jsonl``."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory import write_rsvqa
from qwen2vl_rs.datasets.tables import write_conversations, write_csv
from qwen2vl_rs.errors import DataError
from qwen2vl_rs.predict.job import Job
from qwen2vl_rs.predict.predictor import Reply, to_prediction
from qwen2vl_rs.scoring.predictions import read_predictions, read_training, write_predictions
from qwen2vl_rs.types import Prediction, Sample

LINE = '{"question": "Is there a road?", "answer": "yes", "prediction": "Yes."}'


@pytest.fixture
def read(tmp_path):
    def read(content):
        path = tmp_path / "predictions.jsonl"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_predictions(path)

    return read


def test_three_keys_are_enough(read):
    assert read(LINE) == [Prediction("", "", "Is there a road?", "presence", "yes", "Yes.")]


def test_foreign_files_are_read(read):
    other = '{"question":"How many?","answer":3,"prediction":null,"id":7,"confidence":1,"x":[1]}'
    found = read(b"\xef\xbb\xbf" + f"{LINE}\r\n\r\n{other}\r\n".encode())
    assert found[0].type == "presence"
    assert found[1] == Prediction("7", "", "How many?", "other", "3", "", "", 1.0)


def broken(**changes):
    return json.dumps({**json.loads(LINE), **changes})


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "not JSON .* at column"),
        ("[]", "expected an object"),
        ("12", "expected an object"),
        ("question,answer", "not JSON"),
        ('{"question": "q", "answer": "a"}', "prediction is missing"),
        (broken(question=" "), "must not be empty"),
        (broken(answer=""), "must not be empty"),
        (broken(answer=None), "answer must be text or a whole number, not None"),
        (broken(answer=True), "answer must be text or a whole number, not True"),
        (broken(prediction=1.5), "prediction must be text or a whole number, not 1.5"),
        (broken(prediction=["yes"]), "prediction must be text"),
        (broken(image=3), "image must be text"),
        (broken(confidence=1.5), "confidence must be between 0 and 1, or null, not 1.5"),
        (broken(confidence="high"), "confidence must be"),
        (broken(confidence=True), "confidence must be"),
        (LINE.replace('"yes"', "NaN"), "answer must be text or a whole number, not nan"),
        (broken(confidence=float("nan")), "confidence must be between 0 and 1, or null"),
        (broken(prediction=float("inf")), "prediction must be text or a whole number, not inf"),
        (broken(prediction="\ud800"), "prediction contains a lone surrogate"),
        ('{"question": ' + "9" * 5000 + "}", "not JSON"),
        ("[" * 100_000, "nested too deeply"),
        (broken(text="x" * (1 << 20)), "longer than a MiB"),
        (broken(id="a") + "\n" + broken(id="a"), "line 3: duplicate id a"),
    ],
)
def test_bad_lines_are_named(read, line, why):
    line = line if isinstance(line, bytes) else line.encode()
    with pytest.raises(DataError, match=f"line [23]: .*{why}|{why}") as caught:
        read(f"{LINE}\n".encode() + line)
    assert "line 2" in caught.value.message or "line 3" in caught.value.message
    assert "prediction" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (LINE.encode("utf-16"), "UTF-16"), (LINE.encode("utf-16-le"), "UTF-16"),
        (gzip.compress(LINE.encode(), mtime=0), "gzip"), (b"PK\x03\x04\n", "zip file"),
        (b"[\n" + LINE.encode() + b"\n]", "one JSON list"), (b"question,answer\n", "CSV"),
    ],
)  # fmt: skip
def test_other_files_are_told_by_their_looks(read, content, why):
    with pytest.raises(DataError, match=f"line 1: .*{why}"):
        read(content)


def test_numbers_may_be_floats_and_unused_keys_anything(read):
    found = read(broken(prediction=3.0, answer=3, loss=float("nan"), note="\ud800").encode())
    assert (found[0].prediction, found[0].answer) == ("3", "3")


def test_another_encoding_is_named_with_what_mends_it(read):
    for lead in ("", f"{LINE}\n"):
        with pytest.raises(DataError, match="not UTF-8") as caught:
            read(
                lead.encode()
                + broken(question="\u6709\u9053\u8def")
                .encode()
                .decode("unicode_escape")
                .encode("gbk")
            )
        assert caught.value.hint == "save it as UTF-8, e.g. iconv -f GBK -t UTF-8 FILE > NEW"


@pytest.mark.parametrize("content", ["", "\n \r\n", b"\xef\xbb\xbf\n"])
def test_empty_files_are_errors(read, content):
    with pytest.raises(DataError, match="contains no predictions"):
        read(content)


def test_missing_files_are_errors(tmp_path):
    for path in (tmp_path / "nothing.jsonl", tmp_path):
        with pytest.raises(DataError, match="cannot read"):
            read_predictions(path)


plain = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
full = plain.filter(str.strip)
lines = st.builds(Prediction, plain, plain, full, full, full, plain, plain, st.floats(0, 1))


@given(st.lists(lines, min_size=1, max_size=5, unique_by=lambda p: p.id))
def test_what_is_written_is_read_back(tmp_path_factory, found):
    path = tmp_path_factory.mktemp("run") / "eval" / "predictions.jsonl"
    write_predictions(path, found)
    assert read_predictions(path) == found
    assert [p.name for p in path.parent.iterdir()] == [path.name]


ASKED = Sample("rsvqa_1", "/data/1.tif", "Is there a road?", "yes", "presence")


def test_training_questions_come_in_any_format(tmp_path):
    table, talks, lines = (tmp_path / n for n in ("t.csv", "t.json", "t.jsonl"))
    write_csv(table, [ASKED], True)
    write_conversations(talks, [ASKED])
    lines.write_text(
        '{"question": "Is there a road?", "answer": "yes", "x": 1}\n\n'
        '{"id": 7, "image": "a", "type": "count", "question": "How many?", "answer": 3}\n'
    )
    for path in (table, talks):
        (found,) = read_training(path)
        assert (found.question, found.answer, found.image) == (
            "Is there a road?",
            "yes",
            "/data/1.tif",
        )
    assert list(read_training(lines)) == [
        Sample("", "", "Is there a road?", "yes"), Sample("7", "a", "How many?", "3", "count"),
    ]  # fmt: skip


def test_training_questions_of_an_official_split(tmp_path):
    folder = write_rsvqa(tmp_path, images=2)
    found = list(read_training(folder / "rsvqa_questions.json"))
    assert len(found) == 16
    assert (found[0].type, found[0].image) == ("presence", str(folder / "rsvqa_images" / "0.tif"))
    (folder / "rsvqa_images").rename(tmp_path / "elsewhere")
    alone = list(read_training(folder / "rsvqa_questions.json"))
    assert [(s.question, s.answer) for s in alone] == [(s.question, s.answer) for s in found]
    assert alone[-1].image == "1"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{"question": "q"}', "line 1: answer is missing"),
        ('{"question": "q", "answer": " "}', "line 1: question and answer must not be empty"),
        ('{"question": "q", "answer": "a"}\n{', "line 2: not JSON"),
        ('{"answers": []}', "line 1: question is missing"),
        ("", "empty"),
    ],
)
def test_bad_training_questions_are_named(tmp_path, content, why):
    path = tmp_path / "train.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=why):
        list(read_training(path))


def test_answers_are_in_the_file_as_soon_as_they_are_there(tmp_path):
    """A process that is killed a moment later has lost none."""
    samples = [Sample(str(n), str(Path(__file__)), "Is there a road?", "yes") for n in range(3)]
    job = Job(samples, tmp_path, ["model"])
    path = tmp_path / "predictions.partial-0.jsonl"
    with job.appending(3) as log:
        for n, sample in enumerate(samples, 1):
            log.add([to_prediction(sample, Reply("yes"))])
            assert len(path.read_text().splitlines()) == 1 + n
