import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen2vl_rs.datasets.rsvqa import (
    INACTIVE,
    NO_ANSWER,
    NO_IMAGE,
    LeftOut,
    answers_beside,
    find_split,
    image_subfolder,
    images_beside,
    read_split,
)
from qwen2vl_rs.errors import DataError
from qwen2vl_rs.types import Sample

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
BOM = b"\xef\xbb\xbf"
BEYOND = "a number beyond 64 bits"


def question(id, img_id=7, text="Is there a road?", **more):
    return {
        "id": id,
        "date_added": 1543613776.41,
        "img_id": img_id,
        "people_id": 0,
        "type": "presence",
        "question": text,
        "answers_ids": [id],
        "active": True,
    } | more


def answer(id, text="yes", **more):
    return {"id": id, "question_id": id, "answer": text, "active": True} | more


def stub(id):
    return {"id": id, "active": False}


def lay_out(folder, questions, answers, images=("7.tif",)):
    (folder / "q.json").write_text(json.dumps({"questions": questions}))
    (folder / "a.json").write_text(json.dumps({"answers": answers}))
    (folder / "images").mkdir(exist_ok=True)
    for name in images:
        (folder / "images" / name).touch()


def read(folder):
    counts = LeftOut()
    images = folder / "images"
    return list(read_split(folder / "q.json", folder / "a.json", images, counts=counts)), counts


def refused(folder):
    with pytest.raises(DataError) as caught:
        read(folder)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


def refused_text(folder, text, which="q.json"):
    lay_out(folder, [question(1)], [answer(1)])
    (folder / which).write_bytes(text if isinstance(text, bytes) else text.encode())
    return refused(folder)


def test_a_sample_is_the_record_as_stored(tmp_path):
    text = "Is a small  building next to a  road present?"
    lay_out(tmp_path, [question(12, 7, text)], [answer(12, "624m2")])
    samples, counts = read(tmp_path)
    image = str(tmp_path / "images" / "7.tif")
    assert samples == [Sample("rsvqa_1", image, text, "624m2", "presence")]
    assert counts.lines() == []


def test_image_paths_are_absolute(tmp_path, monkeypatch):
    lay_out(tmp_path, [question(1)], [answer(1)])
    monkeypatch.chdir(tmp_path)
    samples, _ = read(Path())
    assert samples[0].image == str(tmp_path / "images" / "7.tif")


def test_full_list_with_stubs_equals_compacted_list(tmp_path):
    active = [3, 4, 9]
    full, compact = tmp_path / "full", tmp_path / "compact"
    full.mkdir()
    compact.mkdir()
    records = [question(k, text=f"Is {k} there?") for k in active]
    answers = [answer(k, str(k)) for k in active]
    lay_out(compact, records, answers)
    lay_out(
        full,
        [next((r for r in records if r["id"] == k), stub(k)) for k in range(10)],
        [next((r for r in answers if r["id"] == k), stub(k)) for k in range(10)],
    )
    (whole, left), (short, none_left) = read(full), read(compact)
    assert [(s.id, s.question, s.answer, s.type) for s in whole] == [
        (s.id, s.question, s.answer, s.type) for s in short
    ]
    assert [s.answer for s in whole] == ["3", "4", "9"]
    assert left.numbers == {INACTIVE: 7}
    assert left.lines() == ["7 inactive (question ids 0, 1, 2, …)"]
    assert none_left.numbers == {}


@given(data=st.data())
@settings(max_examples=40)
def test_answers_are_joined_by_id_wherever_they_stand(data):
    ids = data.draw(st.lists(st.integers(-5, 2**63 - 1), min_size=1, max_size=20, unique=True))
    shift = data.draw(st.integers(0, len(ids) - 1))
    partner = dict(zip(ids, ids[shift:] + ids[:shift], strict=True))
    records = [question(k, text=f"Is {k} there?", answers_ids=[partner[k]]) for k in ids]
    answers = data.draw(st.permutations([answer(k, f"answer {k}") for k in ids]))
    with tempfile.TemporaryDirectory() as name:
        lay_out(Path(name), records, answers)
        samples, _ = read(Path(name))
    assert [s.answer for s in samples] == [f"answer {partner[k]}" for k in ids]


def test_many_batches_keep_their_order(tmp_path):
    ids = list(range(0, 12_000, 9))
    answers = [answer(k, str(k)) for k in ids]
    random.Random(1).shuffle(answers)
    lay_out(tmp_path, [question(k) for k in ids], answers)
    samples, _ = read(tmp_path)
    assert [int(s.answer) for s in samples] == ids
    assert [s.id for s in samples] == [f"rsvqa_{n}" for n in range(1, len(ids) + 1)]


@pytest.mark.parametrize("links", [{"answers_ids": []}, {"answers_ids": None}, None])
def test_without_answers_ids_the_answer_names_the_question(tmp_path, links):
    record = question(5)
    del record["answers_ids"]
    answers = [
        answer(30, "later", question_id=5),
        answer(20, "first", question_id=5),
        answer(5, "x"),
    ]
    answers[2]["question_id"] = 99
    lay_out(tmp_path, [record | (links or {})], answers)
    assert [s.answer for s in read(tmp_path)[0]] == ["first"]


@pytest.mark.parametrize(("stored", "expected"), [(47, "47"), ("47", "47"), (0.5, "0.5")])
def test_numbers_are_answers_too(tmp_path, stored, expected):
    lay_out(tmp_path, [question(1)], [answer(1, stored)])
    assert read(tmp_path)[0][0].answer == expected


def test_type_and_active_may_be_absent(tmp_path):
    records = {"id": 1, "img_id": 7, "question": "Is it?", "answers_ids": [4]}
    lay_out(tmp_path, [records], [{"id": 4, "answer": "no"}])
    assert [(s.answer, s.type) for s in read(tmp_path)[0]] == [("no", "")]


def test_byte_order_marks_are_skipped(tmp_path):
    lay_out(tmp_path, [question(1)], [answer(1)])
    for name in ("q.json", "a.json"):
        (tmp_path / name).write_bytes(BOM + (tmp_path / name).read_bytes())
    assert len(read(tmp_path)[0]) == 1


def test_the_preferred_image_file_is_taken(tmp_path):
    names = ("1.png", "1.tif", "2.jpeg", "2.png", "3.TIF", "4.jpg", "04.tif", "4.txt", "x.tif")
    lay_out(
        tmp_path, [question(k, k) for k in range(1, 5)], [answer(k) for k in range(1, 5)], names
    )
    samples, _ = read(tmp_path)
    assert [Path(s.image).name for s in samples] == ["1.tif", "2.png", "3.TIF", "4.jpg"]


def test_what_is_left_out_is_counted_with_examples(tmp_path):
    records = [stub(0), question(1), question(2), question(3, 8), question(4, 8)]
    lay_out(tmp_path, records, [answer(1), stub(2), answer(3), answer(4)])
    samples, counts = read(tmp_path)
    assert len(samples) == 1
    assert counts.numbers == {INACTIVE: 1, NO_ANSWER: 1, NO_IMAGE: 2}
    assert counts.lines() == [
        "1 inactive (question ids 0)",
        "1 without an answer (question ids 2)",
        "2 without an image (image ids 8)",
    ]


def test_questions_and_answers_without_text_are_left_out(tmp_path):
    records = [question(1), question(2, text=" "), question(3), question(4)]
    lay_out(tmp_path, records, [answer(1), answer(2), answer(3, ""), answer(4, "\n")])
    samples, counts = read(tmp_path)
    assert [s.id for s in samples] == ["rsvqa_1"]
    assert counts.lines() == ["3 with an empty question or answer (question ids 2, 3, 4)"]
    lay_out(tmp_path, records[1:], [answer(2), answer(3, ""), answer(4, "\n")])
    error = refused(tmp_path)
    assert "3 with an empty question or answer" in error.message
    assert "images" not in error.hint


def test_files_that_do_not_belong_together(tmp_path):
    lay_out(tmp_path, [question(1), question(2)], [answer(101)])
    error = refused(tmp_path)
    assert "none of the 2 questions" in error.message
    assert "do not match" in error.hint


def test_nothing_left_is_an_error(tmp_path):
    lay_out(tmp_path, [stub(0), question(1, 8)], [answer(1)])
    message = refused(tmp_path).message
    assert "1 inactive" in message
    assert "1 without an image (image ids 8)" in message


def test_ids_that_stand_twice(tmp_path):
    lay_out(tmp_path, [question(1), question(9), question(1)], [answer(1), answer(9)])
    assert refused(tmp_path).message == f"{tmp_path / 'q.json'}: the id 1 is a duplicate"
    lay_out(tmp_path, [question(1)], [answer(1), answer(6), answer(6)])
    assert refused(tmp_path).message == f"{tmp_path / 'a.json'}: the id 6 is a duplicate"


def test_an_id_that_stands_twice_batches_apart(tmp_path):
    records = [question(k) for k in range(1200)]
    lay_out(tmp_path, [*records, question(3)], [answer(k) for k in range(1200)])
    assert "the id 3 is a duplicate" in refused(tmp_path).message


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": None}, 'record 2: "id" is null, expected a whole number'),
        ({"id": "2"}, 'record 2 (id 2): "id" is text, expected a whole number'),
        ({"img_id": True}, 'record 2 (id 2): "img_id" is true or false, expected a whole number'),
        ({"question": ["x"]}, 'record 2 (id 2): "question" is a list, expected text'),
        ({"type": 3}, 'record 2 (id 2): "type" is a whole number, expected text'),
        ({"answers_ids": 2}, 'record 2 (id 2): "answers_ids" is not a list of whole numbers'),
        ({"answers_ids": ["2"]}, 'record 2 (id 2): "answers_ids" is not a list of whole numbers'),
        ({"id": 2**63}, f'record 2 (id {2**63}): "id" contains {BEYOND}'),
        ({"img_id": -(2**63) - 1}, f'record 2 (id 2): "img_id" contains {BEYOND}'),
        ({"answers_ids": [10**40]}, f'record 2 (id 2): "answers_ids" contains {BEYOND}'),
        ({"question": "a\0b"}, 'record 2 (id 2): "question" contains a NUL'),
        ({"active": 1}, 'record 2 (id 2): "active" is a whole number, expected true or false'),
    ],
)
def test_wrong_fields_are_named(tmp_path, change, said):
    lay_out(tmp_path, [question(1), question(2) | change], [answer(1), answer(2)])
    assert refused(tmp_path).message == f"{tmp_path / 'q.json'}, {said}"


@pytest.mark.parametrize("name", ["id", "img_id", "question"])
def test_missing_question_fields_are_named(tmp_path, name):
    record = question(2)
    del record[name]
    lay_out(tmp_path, [record], [answer(2)])
    assert f'"{name}" is missing' in refused(tmp_path).message


@pytest.mark.parametrize("name", ["id", "answer"])
def test_missing_answer_fields_are_named(tmp_path, name):
    record = answer(2)
    del record[name]
    lay_out(tmp_path, [question(2)], [record])
    error = refused(tmp_path)
    assert error.message.startswith(f"{tmp_path / 'a.json'}, record 1")
    assert f'"{name}" is missing' in error.message


def test_answers_beyond_64_bits_are_named(tmp_path):
    for number in ("1e400", str(10**400)):
        text = '{"answers": [{"id": 1, "answer": ' + number + "}]}"
        assert f'"answer" contains {BEYOND}' in refused_text(tmp_path, text, "a.json").message


def test_wrong_answer_fields_are_named(tmp_path):
    lay_out(tmp_path, [question(2)], [answer(2, None)])
    assert '"answer" is null, expected text' in refused(tmp_path).message
    lay_out(tmp_path, [question(2)], [answer(2, question_id="2")])
    assert '"question_id" is text' in refused(tmp_path).message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"answers": []}', 'contains an object with the key "answers", expected an object with'),
        ('{"info": 1}', 'contains an object with the key "info"'),
        ("{}", "contains an object without keys"),
        ("[1]", 'contains a list, expected an object with the key "questions"'),
        ("hello", "contains no JSON object or list"),
        ('{"questions": []}', "contains no records"),
        ('{"questions": {}}', '"questions" is an object, expected a list'),
        ('{"questions": 3}', '"questions" is a whole number, expected a list'),
        ('{"questions": [5]}', "record 1 is a whole number, expected an object"),
        ("", "is empty"),
    ],
)
def test_wrong_shapes_are_named(tmp_path, text, said):
    message = refused_text(tmp_path, text).message
    assert message.startswith(str(tmp_path / "q.json"))
    assert said in message


def test_swapped_files_are_recognised(tmp_path):
    assert "swapped" in refused_text(tmp_path, '{"answers": [{"id": 1}]}').hint


def test_broken_answers_name_the_answers_file(tmp_path):
    error = refused_text(tmp_path, '{"answers": [{"id": 1, "answer": "y"}', "a.json")
    assert error.message.startswith(f"{tmp_path / 'a.json'} is truncated after record 1")


def test_missing_files_and_folders(tmp_path):
    lay_out(tmp_path, [question(1)], [answer(1)])
    (tmp_path / "a.json").unlink()
    assert refused(tmp_path).message == f"no file {tmp_path / 'a.json'}"
    (tmp_path / "a.json").mkdir()
    assert refused(tmp_path).message.startswith(f"cannot read {tmp_path / 'a.json'}")
    (tmp_path / "images" / "7.tif").unlink()
    (tmp_path / "images").rmdir()
    assert "cannot list the image folder" in refused(tmp_path).message


def test_the_temporary_index_has_no_name(tmp_path, monkeypatch):
    """Nothing can be left behind by a kill."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    for name in ("TMPDIR", "SQLITE_TMPDIR"):
        monkeypatch.setenv(name, str(temporary))
    lay_out(tmp_path, [question(k) for k in range(600)], [answer(k) for k in range(600)])
    before = sorted(tmp_path.rglob("*"))
    reading = read_split(
        tmp_path / "q.json", tmp_path / "a.json", tmp_path / "images", counts=LeftOut()
    )
    assert next(reading).id == "rsvqa_1"
    assert sorted(tmp_path.rglob("*")) == before
    reading.close()


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.mkdir() if "." not in name else path.touch()


@pytest.mark.parametrize(
    ("stem", "images", "split"),
    [
        ("LR_split_train_", "Images_LR", "train"),
        ("USGS_split_test_phili_", "Data", "test_phili"),
        ("RSVQAxBEN_split_val_", "Images", "val"),
        ("my_own_split_test_", "images", "test"),
        ("all_", "Images_LR", "all"),
        ("USGS", "dataUSGS", "all"),
        ("LRBEN", "Images", "all"),
        ("rsvqa_", "rsvqa_images", "all"),
        ("", "data", "all"),
    ],
)
def test_every_published_layout_is_found(tmp_path, stem, images, split):
    questions, answers = f"{stem}questions.json", f"{stem}answers.json"
    touch(tmp_path, questions, answers, f"{stem}images.json", images)
    for asked in (split, None):
        files = find_split(tmp_path, asked)
        assert files.questions == tmp_path / questions
        assert files.answers == tmp_path / answers
        assert files.images == tmp_path / images
    assert answers_beside(tmp_path / questions) == tmp_path / answers
    assert images_beside(tmp_path / questions) == tmp_path / images


def test_splits_are_told_apart(tmp_path):
    names = [f"USGS_split_{s}_questions.json" for s in ("train", "test", "test_phili")]
    touch(tmp_path, *names, "USGSquestions.json", "Data")
    assert find_split(tmp_path, "test").questions.name == "USGS_split_test_questions.json"
    for split in ("val", None):
        with pytest.raises(DataError) as caught:
            find_split(tmp_path, split)
        assert caught.value.hint == "choose one of its splits: --split all|test|test_phili|train"


def test_several_data_sets_in_one_folder(tmp_path):
    names = ("LR_split_train_questions.json", "USGS_split_train_questions.json")
    touch(tmp_path, *names, "Images_LR", "Data")
    with pytest.raises(DataError, match="several data sets: " + ", ".join(names)):
        find_split(tmp_path, "train")


def test_the_data_sets_own_image_folder_comes_first(tmp_path):
    touch(tmp_path, "USGS_split_val_questions.json", "Images_LR", "Data", "images")
    assert find_split(tmp_path).images.name == "Data"


def test_image_folders_that_cannot_be_told_apart(tmp_path):
    touch(tmp_path, "questions.json", "Images", "images")
    with pytest.raises(DataError, match=r"several image folders .*: Images, images"):
        find_split(tmp_path)


def test_folders_without_data(tmp_path):
    with pytest.raises(DataError, match="no questions in"):
        find_split(tmp_path)
    (tmp_path / "file").touch()
    for name in ("absent", "file"):
        with pytest.raises(DataError, match="no folder") as caught:
            find_split(tmp_path / name)
        assert "Zenodo" in caught.value.hint
    touch(tmp_path, "questions.json")
    with pytest.raises(DataError, match="no image folder"):
        find_split(tmp_path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no real RSVQA data in ../shared/data")
@pytest.mark.parametrize(
    ("folder", "split", "number", "images"),
    [
        ("rsvqa-lr", "train", 6402, 64),
        ("rsvqa-lr", "val", 1601, 16),
        ("rsvqa-hr", "train", 5903, 59),
        ("rsvqa-hr", "val", 1101, 11),
    ],
)
def test_real_splits(folder, split, number, images):
    files = find_split(SHARED / folder, split)
    counts = LeftOut()
    samples = list(read_split(files.questions, files.answers, files.images, counts=counts))
    assert len(samples) == number
    assert counts.numbers == {}
    assert len({s.image for s in samples}) == images
    stored = json.loads(files.questions.read_text())["questions"]
    assert [(s.question, s.type) for s in samples] == [(q["question"], q["type"]) for q in stored]


@pytest.mark.skipif(not SHARED.is_dir(), reason="no real RSVQA data in ../shared/data")
def test_real_records_padded_with_stubs(tmp_path):
    """The compacted excerpt, stretched to the full length it has as published."""
    files = find_split(SHARED / "rsvqa-lr", "val")
    for path, key in ((files.questions, "questions"), (files.answers, "answers")):
        by_id = {r["id"]: r for r in json.loads(path.read_text())[key]}
        full = [by_id.get(k, stub(k)) for k in range(max(by_id) + 1)]
        (tmp_path / path.name).write_text(json.dumps({key: full}))
    counts = LeftOut()
    compact = list(read_split(files.questions, files.answers, files.images, counts=LeftOut()))
    padded = read_split(
        tmp_path / files.questions.name, tmp_path / files.answers.name, files.images, counts=counts
    )
    assert list(padded) == compact
    assert counts.numbers == {INACTIVE: max(by_id) + 1 - 1601}


GENERATE_AND_CONVERT = """
import sys, time
from pathlib import Path
folder, count = Path(sys.argv[1]), int(sys.argv[2])
record = {
    "questions": '{"id": %d, "date_added": 1543613776.4112916, "img_id": %d, "people_id": 0, '
    '"type": "presence", "question": "Is a grass area present?", "answers_ids": [%d], '
    '"active": true}',
    "answers": '{"id": %d, "date_added": 1543613776.41, "question_id": %d, "people_id": 0, '
    '"answer": "answer %d", "active": true}',
}
for name, text in record.items():
    with open(folder / f"{name}.json", "w") as file:
        file.write('{"%s": [{"id": -1, "active": false}' % name)
        for k in range(count):
            file.write(", " + text % (k, k // 100 if name == "questions" else k, k))
        file.write("]}")
(folder / "images").mkdir()
for k in range(count // 100):
    (folder / "images" / f"{k}.tif").touch()

from qwen2vl_rs.datasets.reading import data2csv
start = time.monotonic()
report = data2csv(
    folder / "questions.json", folder / "answers.json", folder / "images", folder / "out.csv"
)
seconds = time.monotonic() - start
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(report.written, int(peak.split()[1]), round(seconds, 1))
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_memory_does_not_grow_with_five_million_questions(tmp_path):
    number = 5_000_000
    done = subprocess.run(
        [sys.executable, "-c", GENERATE_AND_CONVERT, str(tmp_path), str(number)],
        capture_output=True,
        text=True,
        check=True,
    )
    written, peak_kib, seconds = done.stdout.split()
    print(
        f"{number / float(seconds):,.0f} questions/s, {seconds} s, {int(peak_kib) / 1024:.0f} MiB"
    )
    assert int(written) == number
    assert int(peak_kib) < 1024**2
    last = (tmp_path / "out.csv").read_bytes()[-200:].decode().splitlines()[-1]
    assert last.endswith(f"{number // 100 - 1}.tif,Is a grass area present?,answer {number - 1}")
    for path in tmp_path.glob("*.*"):
        path.unlink()


@pytest.mark.parametrize(
    ("inside", "found"),
    [(["images"], "images"), (["test", "train"], ""), ([], "")],
)
def test_the_one_folder_of_images_in_an_archive_is_meant_and_of_several_none(
    tmp_path, inside, found
):
    for name in [*inside, "notes"]:
        (tmp_path / name).mkdir()
    for name in inside:
        (tmp_path / name / "0.tif").touch()
    assert image_subfolder(tmp_path) == tmp_path / found
    (tmp_path / "1.tif").touch()  # its own come first
    assert image_subfolder(tmp_path) == tmp_path
