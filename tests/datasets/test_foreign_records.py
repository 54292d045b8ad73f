"""Questions as other programs write them, in files made here by their published formats."""

import base64
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from bases import configured
from factory import make_samples
from qwen2vl_rs.cli import main
from qwen2vl_rs.config import InputConfig
from qwen2vl_rs.datasets.export_formats import EXPORT_FORMATS, export_dataset
from qwen2vl_rs.datasets.reading import csv2json, first_sample, read_samples
from qwen2vl_rs.datasets.tables import read_conversations, write_conversations, write_csv
from qwen2vl_rs.errors import DataError, RunError
from qwen2vl_rs.run import Run
from qwen2vl_rs.scoring.predictions import read_training
from qwen2vl_rs.training.preparation import make_split
from qwen2vl_rs.types import Sample

Q, A = "Is there a road?", "yes"


def human(*texts):
    """Turns of sharegpt: question, answer, question, …"""
    roles = ("human", "gpt")
    return [{"from": roles[k % 2], "value": text} for k, text in enumerate(texts)]


def user(*texts):
    roles = ("user", "assistant")
    return [{"role": roles[k % 2], "content": text} for k, text in enumerate(texts)]


@pytest.fixture
def here(tmp_path, monkeypatch):
    folder = tmp_path / "theirs"
    (folder / "images").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        (folder / "images" / name).write_bytes(b"\x89PNG\r\n\x1a\n")
    monkeypatch.chdir(tmp_path)
    return folder


def written(folder, records, form="list", lead="", end="\n"):
    path = folder / ("data.json" if form == "list" else "data.jsonl")
    text = json.dumps(records, ensure_ascii=False, indent=1)
    if form == "lines":
        text = "".join(json.dumps(one, ensure_ascii=False) + end for one in records)
    path.write_bytes((lead + text).encode())
    return path


ONE = {
    "sharegpt": {"conversations": human(f"<image>{Q}", A), "images": ["images/a.png"]},
    "a line after": {"conversations": human(f"<image>\n{Q}", A), "images": ["images/a.png"]},
    "openai tags": {"messages": user(f"<image>{Q}", A), "images": ["images/a.png"]},
    "alpaca": {"instruction": f"<image>{Q}", "input": "", "output": A, "images": ["images/a.png"]},
    "alpaca, input": {"instruction": "<image>", "input": Q, "output": A,
                      "images": ["images/a.png"]},
    "ms-swift, no mark": {"messages": user(Q, A), "images": ["images/a.png"]},
    "ms-swift, one path": {"messages": user(f"<image>{Q}", A), "images": "images/a.png"},
    "ms-swift, objects": {"messages": user(f"<image>{Q}", A),
                          "images": [{"bytes": None, "path": "images/a.png"}]},
    "query": {"query": f"<image>{Q}", "response": A, "images": ["images/a.png"]},
    "query, no mark": {"query": Q, "response": A, "images": ["images/a.png"]},
    "img": {"query": f"Picture 1: <img>images/a.png</img>\n{Q}", "response": A},
    "img with images": {"query": f"<img>images/a.png</img>{Q}", "response": A, "history": []},
    "LLaVA": {"id": "x", "image": "images/a.png", "conversations": human(f"<image>\n{Q}", A)},
    "LLaVA, mark behind": {"image": "images/a.png", "conversations": human(f"{Q}\n<image>", A)},
    "parts": {"messages": [
        {"role": "user", "content": [{"type": "image", "image": "images/a.png"},
                                     {"type": "text", "text": Q}]},
        {"role": "assistant", "content": [{"type": "text", "text": A}]}]},
    "parts of OpenAI": {"messages": [
        {"role": "user", "content": [{"type": "text", "text": Q}, {
            "type": "image_url", "image_url": {"url": "file://images/a.png"}}]},
        {"role": "assistant", "content": A}]},
    "parts and images": {"messages": [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": Q}]},
        {"role": "assistant", "content": A}], "images": ["images/a.png"]},
    "trl": {"prompt": user(Q), "completion": user("", A)[1:], "images": ["images/a.png"]},
    "plain": {"image": "images/a.png", "question": Q, "answer": A, "type": "presence"},
    "nulls": {"messages": user(f"<image>{Q}", A), "images": ["images/a.png"], "videos": None,
              "system": None, "tools": None, "id": None, "type": None, "history": None},
    "with the instruction": {"messages": user(f"<image>{InputConfig().instruction}\n{Q}", A),
                             "images": ["images/a.png"]},
}  # fmt: skip


@pytest.mark.parametrize("form", ["list", "lines"])
@pytest.mark.parametrize("name", ONE)
def test_one_question_about_one_image(here, name, form):
    record = ONE[name]
    (found,) = read_samples(written(here, [record], form))
    name = record.get("id") or "rsvqa_1"
    expected = Sample(name, str(here / "images/a.png"), Q, A, record.get("type") or "")
    assert replace(found, image=os.path.normpath(found.image)) == expected


@pytest.mark.parametrize(("lead", "end"), [("\ufeff", "\n"), ("", "\r\n"), ("\n\n", "\n\n")])
def test_marks_of_editors_do_not_matter(here, lead, end):
    records = [ONE["sharegpt"], ONE["query"]]
    assert len(read_samples(written(here, records, "lines", lead, end))) == 2
    assert len(read_samples(written(here, records, "list", lead))) == 2


def test_images_are_looked_for_beside_the_file_then_from_the_current_folder(here, tmp_path):
    path = written(here, [ONE["plain"], {**ONE["plain"], "image": "own.png"}], "lines")
    (tmp_path / "own.png").touch()
    assert [s.image for s in read_samples(path)] == [str(here / "images/a.png"), "own.png"]
    (here / "own.png").touch()
    assert read_samples(path)[1].image == str(here / "own.png")


def test_what_is_found_beside_a_file_is_found_from_everywhere(here, tmp_path, monkeypatch):
    path = written(here, [ONE["plain"]]).relative_to(tmp_path)
    csv2json(path, Path("out/data_vl.json"))
    monkeypatch.chdir(tmp_path / "out")
    assert read_samples(Path("data_vl.json"))[0].image == str(here / "images/a.png")
    monkeypatch.chdir(here)
    assert read_samples(Path("data.json"))[0].image == "images/a.png"


def test_a_list_of_something_else_is_told_how_to_name_its_fields(here):
    path = written(here, [{"image": "images/a.png", "q": Q, "a": A}])
    with pytest.raises(DataError, match="JSON list, not a CSV") as caught:
        csv2json(path, here / "out.json")
    assert "--columns image=A" in caught.value.hint
    named = {"question": "q", "answer": "a"}
    assert csv2json(path, here / "out.json", columns=named).written == 1


def test_several_turns_are_questions_of_their_own(here, capsys):
    talk = {"id": "t", "image": "images/a.png", "system": "Be brief.", "conversations": [
        {"from": "developer", "value": "You see maps."},
        *human(f"<image>\n{Q}", A, "How many?", 3, "And now?")]}  # fmt: skip
    more = {"query": "Why?", "response": "so", "images": ["images/b.png"],
            "history": [["<image>Where?", "there"]]}  # fmt: skip
    found = list(read_samples(written(here, [talk, more])))
    assert [(s.id, s.question, s.answer) for s in found] == [
        ("t_1", Q, A), ("t_2", "How many?", "3"), ("rsvqa_2_1", "Where?", "there"),
        ("rsvqa_2_2", "Why?", "so"),
    ]  # fmt: skip
    assert [Path(s.image).name for s in found] == ["a.png"] * 2 + ["b.png"] * 2
    said = capsys.readouterr().err
    assert "2 conversations have several turns: each turn becomes an independent question" in said
    assert "2 system turns are ignored: the instruction is a setting (" in said
    assert "left out: 1 without an answer (question ids t)" in said


LEFT = [
    ({"messages": user(Q, A)}, "without any image"),
    ({"messages": user(Q, A), "images": []}, "without any image"),
    ({"messages": user(Q, A), "images": [None]}, "without any image"),
    ({"messages": user(Q, A), "images": [{"bytes": None, "path": None}]}, "without any image"),
    ({"conversations": human(Q, A)}, "without any image"),
    ({"messages": user(f"<image><image>{Q}", A), "images": ["a", "b"]}, "with several images"),
    ({"messages": user(f"<image>{Q}", A), "images": ["a", "b"]}, "with several images"),
    ({"query": f"<img>a</img><img>b</img>{Q}", "response": A}, "with several images"),
    ({"messages": user(f"<video>{Q}", A), "videos": ["a.mp4"]}, "with video or sound"),
    ({"video": "a.mp4", "conversations": human(f"<image>\n{Q}", A)}, "with video or sound"),
    (
        {"image": "https://x.y/a.png", "question": Q, "answer": A},
        "with an image that is not a f",
    ),
    (
        {"image": "data:image/png;base64,AA", "question": Q, "answer": A},
        "with an image that is not a f",
    ),
    ({"messages": user(f"<image>{Q}"), "images": ["images/a.png"]}, "without an answer"),
    ({"messages": user(f"<image>{Q}", None), "images": ["images/a.png"]}, "without an answer"),
    ({"image": "images/a.png", "conversations": human(f"<image>\n{Q}", " ")}, "with an empty"),
    ({"image": "images/a.png", "conversations": human("<image>\n", A)}, "with an empty"),
    ({"image": "images/a.png", "question": Q, "answer": None}, "without an answer"),
    ({"image": None, "question": Q, "answer": A}, "without any image"),
    ({"image": "images/a.png", "conversations": []}, "without any question"),
    ({"image": "images/a.png", "messages": [{"role": "system", "content": Q}]}, "without any q"),
]


@pytest.mark.parametrize("form", ["list", "lines"])
@pytest.mark.parametrize(("record", "why"), LEFT)
def test_what_is_no_question_about_one_image_is_counted(here, capsys, record, why, form):
    """The record before it stays; alone it makes no data set."""
    (found,) = read_samples(written(here, [ONE["sharegpt"], {"id": "odd"} | record], form))
    assert found.question == Q
    said = capsys.readouterr().err
    assert f"left out: 1 {why}" in said
    assert "(question ids odd" in said
    path = written(here, [{"id": "odd"} | record], form)
    with pytest.raises(DataError, match="contains no usable question: left out 1"):
        read_samples(path)


WRONG = [
    ({"image": "data:image/png;base64,AAAA", "question": Q, "answer": A}, "have no known format"),
    ({"question": Q, "answer": A}, "no question with an answer and an image; it has id, question"),
    ({"images": ["images/a.png"], "conversations": human(Q, A)}, "but its text has 0 <image>"),
    ({"images": ["images/a.png"], "messages": user(f"<image><image>{Q}", A)},
     "its text has 2 <image>"),
    ({"images": ["images/a.png"], "messages": user(f"<image>{Q}", A, "<image>?", A)},
     "its text has 2 <image>"),
    ({"images": [], "messages": user(f"<image>{Q}", A)}, "no image, but its text has 1 <image>"),
    ({"conversations": human(f"<image>\n{Q}", A)}, "no image, but its text has 1 <image>"),
    ({"images": ["images/a.png"], "instruction": Q, "output": A}, "1 image, but"),
    ({"images": ["images/a.png"], "messages": user(f"<image>{Q}", A)[::-1]},
     "an answer without a question"),
    ({"images": ["images/a.png"], "messages": user(f"<image>{Q}")[:1] * 2},
     "its text has 2 <image>"),
    ({"images": ["images/a.png"], "messages": user("<image>a")[:1] + user(Q)},
     "two questions without an answer"),
    ({"images": ["images/a.png"], "messages": user(f"<image>{Q}", A) + user(0, A)[1:]},
     "an answer without a question"),
    ({"images": ["images/a.png"], "messages": [{"role": "tool", "content": "1"}]}, "the role tool"),
    ({"images": ["images/a.png"], "messages": [{"content": "1"}]}, "has the role None"),
    ({"images": ["images/a.png"], "messages": [{"role": ["user"], "content": "1"}]}, "the role"),
    ({"images": ["images/a.png"], "messages": "Q"}, '"messages" is not a list of turns'),
    ({"images": ["images/a.png"], "messages": [Q, A]}, '"messages" is not a list of turns'),
    ({"images": ["images/a.png"], "messages": user(f"<image>{Q}", [True])}, "neither text nor"),
    ({"images": ["images/a.png"], "messages": user(f"<image>{Q}", True)}, "neither text nor"),
    ({"images": [7], "messages": user(f"<image>{Q}", A)}, "the image is not a path: 7"),
    ({"images": ["a\0b"], "messages": user(f"<image>{Q}", A)}, "the image is not a path"),
    ({"images": ["images/a.png"], "query": f"<image>{Q}", "response": "a\0b"}, "contains a NUL"),
    ({"images": ["images/a.png"], "query": Q, "response": A, "history": [[Q]]}, "list of pairs"),
    ({"image": "images/a.png", "question": {"a": None}, "answer": A}, "the question is neither"),
    ({"image": "images/a.png", "question": Q, "answer": [A, "no"]}, "the answer is neither"),
    ({"image": "images/a.png", "question": Q, "answer": False}, "the answer is neither"),
    ({"images": ["images/a.png"], "query": Q, "response": A, "history": 1.5}, "list of pairs"),
    ({"images": ["images/a.png"], "query": Q, "response": A, "history": "so"}, "list of pairs"),
]  # fmt: skip


@pytest.mark.parametrize("form", ["list", "lines"])
@pytest.mark.parametrize(("record", "why"), WRONG)
def test_what_is_malformed_is_refused_by_name(here, record, why, form):
    path = written(here, [ONE["sharegpt"], {"id": "odd"} | record], form)
    with pytest.raises(DataError) as caught:
        read_samples(path)
    unit = "record" if form == "list" else "line"
    assert caught.value.message.startswith(f"{path}, {unit} 2 (id odd): ")
    assert why in caught.value.message
    assert caught.value.hint


def test_numbers_are_answers_as_they_are_written(here):
    records = [{"image": "images/a.png", "question": Q, "answer": v} for v in (3, 3.0, 0.5, ["no"])]
    assert [s.answer for s in read_samples(written(here, records))] == ["3", "3", "0.5", "no"]


def test_an_answer_that_is_no_number_is_refused(here):
    path = written(here, [ONE["query"] | {"response": float("inf")}], "lines")
    with pytest.raises(DataError, match="line 1: the answer is neither text nor a number: inf"):
        read_samples(path)
    path = written(here, [ONE["query"], ONE["query"] | {"response": float("nan")}], "lines")
    assert len(read_samples(path)) == 1


def test_ids_that_stand_twice_are_refused(here):
    path = written(here, [{"id": 7, **ONE["query"]}] * 2, "lines")
    with pytest.raises(DataError, match="the id '7' is a duplicate"):
        read_samples(path)


def conversation(name, *pairs):
    turns = [
        {"from": who, "value": text}
        for k, (asked, answered) in enumerate(pairs)
        for who, text in (("human", "<image>\n" * (k == 0) + asked), ("gpt", answered))
    ]
    return {"id": name, "image": "images/a.png", "conversations": turns}


def test_repeated_ids_of_conversations_are_numbered(here, capsys):
    records = [
        conversation("1", (Q, "no")),
        conversation("1", (Q, "yes")),
        conversation("1_2", (Q, "no")),
        conversation("b", (Q, "yes"), (Q, "no")),
        conversation("b_1", (Q, "no")),
        conversation("1", (Q, "yes")),
    ]
    path = written(here, records)
    ids = ["1", "1_2", "1_2_2", "b_1", "b_2", "b_1_2", "1_3"]
    found = read_samples(path)
    assert [s.id for s in found] == ids
    assert [s.answer for s in found] == ["no", "yes", "no", "yes", "no", "no", "yes"]
    assert capsys.readouterr().err.count("4 with a repeated id: a number is appended") == 1
    assert csv2json(path, here / "out.json").written == 7
    assert [s.id for s in read_samples(here / "out.json")] == ids


def test_a_first_record_may_be_long(here):
    record = {"note": "x" * 100_000, **ONE["query"]}
    for form in ("list", "lines"):
        path = written(here, [record, {**ONE["query"], "note": "é" * 1000}], form)
        assert len(read_samples(path)) == 2
        assert csv2json(path, here / "out.json").written == 2


def test_ids_that_stand_twice_are_not_written(here):
    rows = [{"key": 1, "image": "images/a.png", "question": Q, "answer": A}] * 2
    with pytest.raises(DataError, match="the id '1' is a duplicate") as found:
        csv2json(written(here, rows), here / "out.json", columns={"id": "key"})
    assert found.value.hint == "give each record a unique id, or remove the ids"
    assert not (here / "out.json").exists()


def test_a_line_that_is_no_json_is_named(here):
    path = written(here, [ONE["query"]], "lines")
    path.write_text(path.read_text() + '{"query": ')
    with pytest.raises(DataError, match="line 2: not JSON"):
        read_samples(path)


def test_results_are_not_taken_for_questions(here):
    """What is said in them is a model's."""
    record = {"response": "no", "labels": A, "messages": user(f"<image>{Q}", "no"), "images": ["a"]}
    with pytest.raises(DataError, match="results of ms-swift, which score reads"):
        read_samples(written(here, [record], "lines"))


def test_our_own_conversations_may_stand_among_them(here):
    samples = [
        Sample("own", "/a.tif", Q, A, "presence", "LR"),
        Sample("x", "/<|vision_end|>", Q, A),
    ]
    write_conversations(here / "own.json", samples)
    ours = json.loads((here / "own.json").read_text())
    for form in ("list", "lines"):
        found = list(read_samples(written(here, [*ours, {"id": "odd", **ONE["sharegpt"]}], form)))
        assert found[:2] == samples
        assert found[2].id == "odd"


# tables


def png(seed):
    values = np.random.default_rng(seed).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "png")
    return file.getvalue()


def tiff(seed):
    file = io.BytesIO()
    Image.open(io.BytesIO(png(seed))).save(file, "tiff")
    return file.getvalue()


ROWS = [
    {"image": {"bytes": png(0), "path": "0.png"}, "question": Q, "answer": A, "type": "presence"},
    {"image": {"bytes": png(0), "path": "1"}, "question": "How many?", "answer": "3", "type": None},
    {"image": {"bytes": tiff(1), "path": None}, "question": Q, "answer": "no", "type": "presence"},
]  # fmt: skip


def parquet(path, rows, **columns):
    table = pa.Table.from_pylist(rows)
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    pq.write_table(table, path, row_group_size=2)
    return path


def test_images_in_parquet_are_written_once_by_their_digest(tmp_path, capsys):
    path = parquet(tmp_path / "train.parquet", ROWS)
    found = list(read_samples(path))
    folder = tmp_path / "train_images"
    assert [(s.id, s.question, s.answer, s.type) for s in found] == [
        ("rsvqa_1", Q, A, "presence"), ("rsvqa_2", "How many?", "3", ""),
        ("rsvqa_3", Q, "no", "presence"),
    ]  # fmt: skip
    assert sorted(map(str, folder.iterdir())) == sorted({s.image for s in found})
    assert [Path(s.image).suffix for s in found] == [".png", ".png", ".tif"]
    assert Path(found[0].image).read_bytes() == png(0)
    assert found[0].image == found[1].image
    # what is there is not written again, what was cut is
    first, last = Path(found[0].image), Path(found[2].image)
    before = first.stat().st_ino
    last.write_bytes(last.read_bytes()[:10])
    assert list(read_samples(path)) == found
    assert first.stat().st_ino == before
    assert last.read_bytes() == tiff(1)


def test_memory_does_not_grow_with_the_images(tmp_path):
    image = png(0) + os.urandom(1 << 20)
    schema = pa.schema([("image", pa.binary()), ("question", pa.string()), ("answer", pa.string())])
    with pq.ParquetWriter(tmp_path / "t.parquet", schema, compression="none") as file:
        for k in range(16):
            rows = [{"image": image + bytes([k, n]), "question": Q, "answer": A} for n in range(4)]
            file.write_table(pa.Table.from_pylist(rows, schema))
    usual = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(pool)
    try:
        assert len(read_samples(tmp_path / "t.parquet").distinct("image")) == 64
    finally:
        pa.set_memory_pool(usual)
    assert 4 << 20 < pool.max_memory() < 28 << 20


def test_csv2json_writes_images_beside_its_output(tmp_path):
    (tmp_path / "in").mkdir()
    path = parquet(tmp_path / "in/t.parquet", ROWS)
    csv2json(path, tmp_path / "out/data_vl.json")
    found = list(read_conversations(tmp_path / "out/data_vl.json"))
    assert {Path(s.image).parent for s in found} == {tmp_path / "out/data_vl_images"}
    assert not (tmp_path / "in/t_images").exists()
    assert list(read_samples(tmp_path / "out/data_vl.json")) == found


def test_the_first_sample_writes_one_image(tmp_path):
    path = parquet(tmp_path / "t.parquet", ROWS[::-1])
    assert first_sample(path)[0].answer == "no"
    assert len(list((tmp_path / "t_images").iterdir())) == 1


def test_training_questions_for_controls_write_none(tmp_path):
    path = parquet(tmp_path / "t.parquet", ROWS)
    assert [s.answer for s in read_training(path)] == [A, "3", "no"]
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]
    rows = [{"image": None, "question": Q, "answer": A}, {"image": "a", "question": Q, "answer": A}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(list(read_training(tmp_path / "t.jsonl"))) == 2


def test_where_images_cannot_be_written_it_is_said_what_helps(tmp_path):
    path = parquet(tmp_path / "t.parquet", ROWS)
    (tmp_path / "t_images").touch()  # in the way; root may write anywhere
    with pytest.raises(RunError, match=r"t_images") as caught:
        read_samples(path)
    assert "csv2json --input FILE --output NEW.json" in caught.value.hint


def test_images_of_parquet_may_be_lists_bytes_or_paths(here):
    listed = [{"images": [row["image"]], "question": Q, "answer": A} for row in ROWS]
    bare = [{"image": row["image"]["bytes"], "question": Q, "answer": A} for row in ROWS]
    paths = [{"image": {"bytes": None, "path": "images/a.png"}, "question": Q, "answer": A}]
    assert len(read_samples(parquet(here / "l.parquet", listed)).distinct("image")) == 2
    assert len(read_samples(parquet(here / "b.parquet", bare)).distinct("image")) == 2
    assert read_samples(parquet(here / "p.parquet", paths))[0].image == str(here / "images/a.png")


def test_images_in_base64_are_images_too(here):
    """Those of VLMEvalKit's data, with choices; ms-swift takes them in lists."""
    content = png(5)
    coded = base64.b64encode(content).decode()
    (here / "t.tsv").write_text(
        f"index\timage\tquestion\tA\tB\tC\tanswer\tcategory\n7\t{coded}\tWhat?\troad\t2\t\tB\tscene\n"
    )
    (found,) = read_samples(here / "t.tsv")
    assert found == Sample("7", found.image, "What?\nA. road\nB. 2", "B", "scene")
    assert Path(found.image).read_bytes() == content
    records = [{**ONE["query"], "images": [f"data:image/png;base64,{coded}"]}]
    (other,) = read_samples(written(here, records, "lines"))
    assert Path(other.image).read_bytes() == content


def test_conversations_in_parquet(here):
    rows = [{"messages": user(f"<image>{Q}", A), "images": [row["image"]]} for row in ROWS]
    found = read_samples(parquet(here / "m.parquet", rows))
    assert found.distinct("question") == [Q]
    assert len(found) == 3


def test_classes_of_hugging_face_are_names(tmp_path):
    """Stored as numbers, which would be trained as such."""
    rows = [{**row, "answer": k} for row, k in zip(ROWS, (1, 0, -1), strict=True)]
    features = {"answer": {"names": ["no", "yes"], "_type": "ClassLabel"}}
    meta = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.Table.from_pylist(rows).replace_schema_metadata(meta)
    pq.write_table(table, tmp_path / "t.parquet")
    assert [s.answer for s in read_samples(tmp_path / "t.parquet")] == ["yes", "no"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"question": Q, "answer": A}], "lacks a column for the image; it has question, answer"),
        ([{"image": "a", "text": A}], "lacks a column for the question, answer"),
        ([{"image": b"GIF89a", "question": Q, "answer": A}], "row 1: the bytes of its image have"),
    ],
)
def test_parquet_of_something_else(tmp_path, rows, said):
    with pytest.raises(DataError, match=said) as caught:
        read_samples(parquet(tmp_path / "t.parquet", rows))
    assert caught.value.hint


def test_damaged_parquet(tmp_path):
    path = parquet(tmp_path / "t.parquet", ROWS)
    whole = path.read_bytes()
    for content in (whole[:-100], b"PAR1", whole[:40] + bytes(80) + whole[120:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=str(path)):
            read_samples(path)


def test_columns_of_any_name(here, capsys):
    (here / "t.csv").write_text("pic,ask,truth,kind,key\nimages/a.png,Is it?,yes,presence,7\n")
    named = "image=pic,question=ask,answer=truth,type=kind,id=key"
    out = str(here / "t.json")
    table = str(here / "t.csv")
    assert main(["csv2json", "-i", table, "-o", out, "--columns", named]) == 0
    expected = Sample("7", str(here / "images/a.png"), "Is it?", "yes", "presence")
    assert list(read_conversations(here / "t.json")) == [expected]
    parts = [word for part in named.split(",") for word in ("--columns", part)]
    assert main(["csv2json", "-i", table, "-o", out, *parts]) == 0
    assert list(read_conversations(here / "t.json")) == [expected]
    capsys.readouterr()
    assert main(["csv2json", "-i", table, "-o", out, "--columns", "image=pict,question=ask"]) == 1
    err = capsys.readouterr().err
    assert (
        "there is no column pict (did you mean pic?); the columns are pic, ask, truth, kind" in err
    )
    assert main(["csv2json", "-i", table, "-o", out, "--columns", "image=pic"]) == 1
    err = capsys.readouterr().err
    assert "lacks a column for the question, answer; it has pic, ask, truth, kind, key" in err
    assert main(["csv2json", "-i", table, "-o", out, "--columns", "picture=pic"]) == 2
    assert "'picture' is not NAME=COLUMN" in capsys.readouterr().err
    assert main(["csv2json", "-i", table, "-o", out, "--columns", "image"]) == 2


RECORDS = [
    {"pic": "images/a.png", "ask": Q, "truth": 3},
    {"pic": "images/b.png", "ask": "Q", "truth": 4},
]


@pytest.mark.parametrize("kind", ["tsv", "csv", "jsonl", "json", "parquet", "xlsx"])
def test_every_kind_of_table_takes_them(here, kind):
    path = here / f"t.{kind}"
    if kind in ("tsv", "csv"):
        rows = [RECORDS[0].keys(), *(row.values() for row in RECORDS)]
        mark = "\t" if kind == "tsv" else ","
        path.write_text("\ufeff" + "".join(mark.join(map(str, row)) + "\r\n" for row in rows))
    elif kind == "parquet":
        parquet(path, RECORDS)
    elif kind == "xlsx":
        book = pytest.importorskip("openpyxl").Workbook()
        for row in [list(RECORDS[0]), *(list(row.values()) for row in RECORDS)]:
            book.active.append(row)
        book.save(path)
    else:
        path = written(here, RECORDS, "lines" if kind == "jsonl" else "list").rename(path)
    names = {"image": "pic", "question": "ask", "answer": "truth"}
    csv2json(path, here / "out.json", columns=names)
    found = read_conversations(here / "out.json")
    assert [(Path(s.image).name, s.question, s.answer) for s in found] == [
        ("a.png", Q, "3"), ("b.png", "Q", "4"),
    ]  # fmt: skip
    with pytest.raises(DataError, match=r"there is no column pig \(did you mean pic"):
        csv2json(path, here / "out.json", columns={**names, "image": "pig"})


def test_tables_with_the_usual_names_need_none(here):
    for name in ("image_path", "image", "file_name"):
        text = f"{name}\tquestion\tanswer\tcategory\nimages/a.png\t{Q}\tyes\tpresence\n"
        (here / "t.tsv").write_text(text)
        expected = Sample("rsvqa_1", str(here / "images/a.png"), Q, A, "presence")
        assert list(read_samples(here / "t.tsv")) == [expected]
        (here / "t.csv").write_text(text.replace("\t", ",").replace("category", "type"))
        assert list(read_samples(here / "t.csv")) == [expected]


def test_a_huge_field_is_named_with_its_line(here):
    (here / "t.tsv").write_text(f"image\tquestion\tanswer\na\t{'x' * 1_000_001}\tyes\n")
    with pytest.raises(DataError, match=r"line 2: a field is longer"):
        read_samples(here / "t.tsv")
    (here / "t.tsv").write_text("image\timage\tquestion\tanswer\na\tb\tc\td\n")
    with pytest.raises(DataError, match="duplicate column image"):
        read_samples(here / "t.tsv")
    (here / "t.tsv").write_text("image\tquestion\tanswer\na\tb\tc\td\n")
    with pytest.raises(DataError, match="line 2: 4 fields, but the header has 3"):
        read_samples(here / "t.tsv")


def test_a_spreadsheet_without_openpyxl(here, monkeypatch):
    import sys
    import zipfile

    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with zipfile.ZipFile(here / "t.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    with pytest.raises(DataError, match="openpyxl, which reads it, is not installed") as caught:
        read_samples(here / "t.xlsx")
    assert "pip install openpyxl" in caught.value.hint


# both ways


@pytest.mark.parametrize("instruction", [InputConfig().instruction, "In one word.", ""])
@pytest.mark.parametrize("form", EXPORT_FORMATS)
def test_what_export_writes_is_read_back(tmp_path, form, instruction):
    samples = make_samples(tmp_path / "tif", images=2)
    write_csv(tmp_path / "t.csv", samples, True)
    write_conversations(tmp_path / "t.json", samples)
    export_dataset(
        tmp_path / "t.json", form, tmp_path / "out", InputConfig(instruction=instruction)
    )
    found = list(read_samples(tmp_path / "out" / EXPORT_FORMATS[form].file))
    carried = form in ("imagefolder", "llava")  # ids and types
    pictures = {}
    for new, old in zip(found, samples, strict=True):
        assert (new.question, new.answer) == (old.question, old.answer)
        assert (new.id, new.type) == ((old.id, old.type) if carried else (new.id, ""))
        assert pictures.setdefault(old.image, new.image) == new.image
        assert Path(new.image).is_file()
    assert len(set(pictures.values())) == len(pictures) == 2


def test_llava_s_file_is_one_list_with_its_three_keys(tmp_path):
    samples = make_samples(tmp_path / "tif", images=1)
    write_conversations(tmp_path / "t.json", samples)
    export_dataset(tmp_path / "t.json", "llava", tmp_path / "out", InputConfig(instruction=""))
    first = json.loads((tmp_path / "out/train.json").read_text())[0]
    assert first["image"] == "images/000000.png"
    assert first["conversations"] == human(f"<image>\n{samples[0].question}", samples[0].answer)


@pytest.mark.parametrize("form", ["llamafactory", "parquet"])
def test_a_run_keeps_what_it_was_given(tmp_path, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    samples = make_samples(tmp_path / "tif", images=4)
    write_conversations(Path("t.json"), samples)
    export_dataset(Path("t.json"), "llamafactory", Path("out"), InputConfig())
    given = "out/train.jsonl"
    if form == "parquet":
        images = {s.image: {"bytes": Path(s.image).read_bytes(), "path": None} for s in samples}
        rows = [{"image": images[s.image], "question": s.question, "answer": s.answer}
                for s in samples]  # fmt: skip
        given = str(parquet(Path("t.parquet"), rows))
    make_split(configured("base", f"data.conversations={given}", "output=run"), Run(Path("run")))
    kept = [
        s for side in ("train", "test") for s in read_conversations(Path(f"run/data/{side}.json"))
    ]
    assert len(kept) == len(samples)
    assert len({s.image for s in kept}) == 4
    assert all(s.image.startswith(str(tmp_path)) and Path(s.image).is_file() for s in kept)


def test_the_option_as_it_was_called_before(tmp_path, capsys):
    write_conversations(tmp_path / "t.json", make_samples(tmp_path / "tif", images=1))
    words = ["export", "--data", str(tmp_path / "t.json")]
    assert main([*words, "--form", "llava", "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out/train.json").is_file()
    capsys.readouterr()
    assert main(["export", "--help"]) == 0
    said = capsys.readouterr().out
    assert "--format" in said
    assert "--form " not in said
