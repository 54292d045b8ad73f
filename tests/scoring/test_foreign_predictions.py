"""Results of other programs, in files made here as these write them, joined to the test set."""

import csv
import json
import zipfile
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qwen2vl_rs.cli import main
from qwen2vl_rs.datasets.reading import read_samples
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.errors import DataError
from qwen2vl_rs.questions.reply import CUT_OFF
from qwen2vl_rs.scoring.predictions import read_predictions
from qwen2vl_rs.types import Prediction, Sample

USUAL = "Answer the question using a single word or phrase."
ASKED = [
    Sample("q-a", "/img/0.tif", "Is there a road?", "yes", "presence", "LR"),
    Sample("q-b", "/img/0.tif", "How many  roads are there?", "12", "count", "LR"),
    Sample("q-c", "/img/1.tif", "Is there a road?", "no", "presence", "LR"),
    Sample("q-d", "/img/1.tif", "Is it a rural or an urban area", "rural", "rural_urban", "LR"),
]
SAID = ["Yes.", "12", "yes", "rural"]
WHOLE = [
    Prediction(s.id, s.image, s.question, s.type, s.answer, said, dataset="LR")
    for s, said in zip(ASKED, SAID, strict=True)
]


def chat(question, system=True, marks=True):
    """A prompt of Qwen2-VL's, as LLaMA-Factory decodes it."""
    lead = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n" if system else ""
    image = "<|vision_start|><|image_pad|><|image_pad|><|vision_end|>"
    text = f"{lead}<|im_start|>user\n{image}{question}<|im_end|>\n<|im_start|>assistant\n"
    if not marks:
        for mark in ("<|im_start|>", "<|im_end|>", image):
            text = text.replace(mark, "")
    return text


def llamafactory(s, said, k, **how):
    return {"prompt": chat(f"{USUAL}\n{s.question}", **how), "predict": said, "label": s.answer}


def bare_llamafactory(s, said, k):
    return llamafactory(s, said, k, system=False, marks=False)


def other_template(s, said, k):
    return {"prompt": f"USER: {s.question} ASSISTANT:", "predict": said, "label": s.answer}


def ms_swift(s, said, k):
    turns = [{"role": "user", "content": f"<image>{USUAL}\n{s.question}"},
             {"role": "assistant", "content": said}]  # fmt: skip
    images = [{"bytes": None, "path": s.image}]
    return {"response": said, "labels": s.answer, "logprobs": None, "messages": turns,
            "images": images}  # fmt: skip


def ms_swift_2(s, said, k):
    return {"query": f"<image>{s.question}", "response": said, "label": s.answer, "history": [],
            "images": [s.image]}  # fmt: skip


def lmms_eval(s, said, k):
    doc = {"question": s.question, "answer": s.answer, "question_type": s.type, "img_id": 7}
    ask = f"{s.question}\n{USUAL}"
    return {
        "doc_id": k, "doc": doc, "target": s.answer, "arguments": [[ask, {"temperature": 0}]],
        "resps": [[said]], "filtered_resps": [said], "doc_hash": "0", "exact_match": 1.0,
    }  # fmt: skip


def lmms_eval_new(s, said, k):
    ask = f"{s.question}\n{USUAL}"
    return {"doc_id": k, "input": ask, "target": [s.answer], "filtered_resps": said}


def lmms_eval_on_one_line(s, said, k):
    ask = f"Look. {s.question} Be brief."
    more = {"doc": {"category": s.type}, "arguments": [[ask, {}]]}
    return {"doc_id": k, "target": s.answer, "resps": [[said]], **more}


def vlmevalkit(s, said, k):
    return {"index": k, "question": s.question, "answer": s.answer, "prediction": said,
            "category": s.type}  # fmt: skip


FORMS = [llamafactory, bare_llamafactory, other_template, ms_swift, ms_swift_2, lmms_eval,
         lmms_eval_new, lmms_eval_on_one_line, vlmevalkit]  # fmt: skip


@pytest.fixture
def questions(tmp_path):
    write_conversations(tmp_path / "test.json", ASKED)
    return read_samples(tmp_path / "test.json")


def lines(path, form, asked=ASKED, said=SAID):
    rows = [form(s, a, k) for k, (s, a) in enumerate(zip(asked, said, strict=True))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def table(path, rows):
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".xlsx":
        book = pytest.importorskip("openpyxl").Workbook()
        for row in [list(rows[0]), *(list(row.values()) for row in rows)]:
            book.active.append(row)
        book.save(path)
    else:
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            mark = "\t" if path.suffix == ".tsv" else ","
            out = csv.DictWriter(file, list(rows[0]), delimiter=mark)
            out.writeheader()
            out.writerows(rows)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_joined_to_the_test_set_they_are_as_ours(tmp_path, questions, form):
    assert read_predictions(lines(tmp_path / "p.jsonl", form), questions) == WHOLE


@pytest.mark.parametrize(
    "form", [f for f in FORMS if f not in (other_template, lmms_eval_on_one_line)]
)
def test_where_they_hold_the_questions_no_test_set_is_needed(tmp_path, form):
    found = read_predictions(lines(tmp_path / "p.jsonl", form))
    for one, asked, said in zip(found, ASKED, SAID, strict=True):
        assert one.question == asked.question
        assert (one.answer, one.prediction, one.type) == (asked.answer, said, asked.type)
        assert one.image == (asked.image if form in (ms_swift, ms_swift_2) else "")


def test_where_they_do_not_it_is_said(tmp_path):
    with pytest.raises(DataError, match="line 1: a LLaMA-Factory line without its") as caught:
        read_predictions(lines(tmp_path / "p.jsonl", other_template))
    assert caught.value.hint == "name the test set: --questions FILE"


@pytest.mark.parametrize("kind", ["tsv", "csv", "parquet", "xlsx"])
def test_tables_of_vlmevalkit(tmp_path, questions, kind):
    rows = [vlmevalkit(s, said, k) for k, (s, said) in enumerate(zip(ASKED, SAID, strict=True))]
    path = table(tmp_path / f"p.{kind}", rows)
    assert read_predictions(path, questions) == WHOLE
    alone = read_predictions(path)
    assert [(p.id, p.type, p.prediction) for p in alone] == [
        (str(k), s.type, said) for k, (s, said) in enumerate(zip(ASKED, SAID, strict=True))
    ]


def test_choices_stand_with_the_question(tmp_path):
    row = {"index": 5, "question": "What is it?", "A": "a road", "B": "water", "C": "", "D": None,
           "answer": "B", "prediction": "B. water\nI see it", "category": "scene"}  # fmt: skip
    (found,) = read_predictions(table(tmp_path / "p.tsv", [row]))
    assert found.question == "What is it?\nA. a road\nB. water"
    assert (found.answer, found.prediction) == ("B", "B. water\nI see it")
    asked = Sample("x", "/0.tif", "What is it?", "B", "scene")
    write_conversations(tmp_path / "t.json", [asked])
    questions = read_samples(tmp_path / "t.json")
    assert read_predictions(tmp_path / "p.tsv", questions)[0].question == "What is it?"
    whole = replace(asked, question="What is it?\n(A) a road\n(B) water")
    write_conversations(tmp_path / "t.json", [whole])
    del row["A"], row["B"]
    found = read_predictions(table(tmp_path / "p.tsv", [row]), read_samples(tmp_path / "t.json"))
    assert found[0].question == whole.question


def test_another_instruction_may_stand_before_the_question(tmp_path, questions):
    def form(s, said, k):
        return {"prompt": chat(f"In one word.\n{s.question}"), "predict": said, "label": s.answer}

    assert read_predictions(lines(tmp_path / "p.jsonl", form), questions) == WHOLE


def test_by_id_order_and_number_of_lines_do_not_matter(tmp_path, questions, capsys):
    def form(s, said, k):
        return {"id": s.id, "question": s.question, "answer": s.answer, "prediction": said}

    path = lines(tmp_path / "p.jsonl", form, ASKED[::-1], SAID[::-1])
    assert read_predictions(path, questions) == WHOLE[::-1]
    assert not capsys.readouterr().err
    assert read_predictions(lines(path, form, ASKED[1:2], SAID[1:2]), questions) == WHOLE[1:2]
    assert "3 of 4 questions without an answer" in capsys.readouterr().err


def test_by_number_order_and_number_of_lines_do_not_matter(tmp_path, questions):
    rows = [lmms_eval(s, said, k) for k, (s, said) in enumerate(zip(ASKED, SAID, strict=True))]
    path = tmp_path / "p.jsonl"
    for order in ((2, 0, 3, 1), (3, 1)):
        path.write_text("".join(json.dumps(rows[k]) + "\n" for k in order))
        assert read_predictions(path, questions) == [WHOLE[k] for k in sorted(order)]


def test_numbers_may_start_anywhere_where_there_are_as_many(tmp_path, questions):
    rows = [vlmevalkit(s, said, k + 7) for k, (s, said) in enumerate(zip(ASKED, SAID, strict=True))]
    assert read_predictions(table(tmp_path / "p.tsv", rows[::-1]), questions) == WHOLE


def test_numbers_that_are_ids_of_the_test_set_for_other_questions(tmp_path):
    """Counted from 0 there, and from 1 in the test set: the texts decide."""
    asked = [replace(s, id=str(k)) for k, s in enumerate(ASKED, 1)]
    write_conversations(tmp_path / "t.json", asked)
    questions = read_samples(tmp_path / "t.json")
    path = lines(tmp_path / "p.jsonl", lmms_eval)
    assert [p.id for p in read_predictions(path, questions)] == ["1", "2", "3", "4"]


REFUSED = [
    (lambda rows: rows[:3], "has 3 lines, but the test set has 4 questions"),
    (lambda rows: rows * 2, "has 8 lines, but the test set has 4 questions"),
    (lambda rows: rows[::-1], "line 1: its answer is not that of question q-a ('yes')"),
    (lambda rows: [rows[0], rows[1] | {"label": "13"}, *rows[2:]], "line 2: its answer is not"),
    (lambda rows: [*rows[:3], rows[3] | {"prompt": chat("Is it?")}], "line 4: its question is not"),
    (lambda rows: [*rows[:3], rows[3] | {"prompt": "Is it?"}], "line 4: its prompt is not that"),
    (lambda rows: [*rows[:3], rows[3] | {"prompt": chat("Is it a rural or an urban area near")}],
     "line 4: its question is not that of question q-d"),
    (lambda rows: [{"predict": "yes", "label": None, "prompt": None}] * 4, "to compare"),
    (lambda rows: [rows[0], rows[1] | {"predict": ["a", "b"]}], "line 2: prediction must be text"),
    (lambda rows: [rows[0], {"label": "yes", "prompt": "?"}], "line 2: prediction is missing"),
    (lambda rows: [{"id": n, "question": s.question, "answer": s.answer, "prediction": "yes"}
                   for n, s in zip(("q-a", "q-x"), ASKED, strict=False)],
     "has 2 lines, but the test set has 4 questions; the id of line 2 is not in it (q-x)"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "said"), REFUSED)
def test_what_does_not_fit_is_refused_with_the_first_difference(tmp_path, questions, change, said):
    rows = [llamafactory(s, a, k) for k, (s, a) in enumerate(zip(ASKED, SAID, strict=True))]
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in change(rows)))
    with pytest.raises(DataError) as caught:
        read_predictions(path, questions)
    assert said in caught.value.message
    assert caught.value.hint


def test_why_an_answer_of_ours_is_unreadable_is_kept(tmp_path, questions):
    def form(s, said, k):
        return {"id": s.id, "question": s.question, "answer": s.answer, "prediction": "",
                "text": "a long", "unreadable": CUT_OFF, "confidence": 0.5}  # fmt: skip

    found = read_predictions(lines(tmp_path / "p.jsonl", form), questions)
    assert {(p.text, p.unreadable, p.confidence) for p in found} == {("a long", CUT_OFF, 0.5)}


def test_our_keys_win_over_what_else_stands_in_a_line(tmp_path):
    ours = {"question": "Is there a road?", "answer": "yes", "prediction": "yes"}
    others = {"response": "no", "label": "no", "messages": [], "predict": "no", "doc_id": 3,
              "resps": ["no"], "index": 7, "id": "own", "category": "x"}  # fmt: skip
    (tmp_path / "p.jsonl").write_text(json.dumps(ours | others))
    (found,) = read_predictions(tmp_path / "p.jsonl")
    assert found == Prediction("own", "", "Is there a road?", "presence", "yes", "yes")


def test_a_number_is_not_used_twice(tmp_path, questions):
    path = tmp_path / "p.jsonl"
    row = json.dumps(lmms_eval(ASKED[0], "yes", 0)) + "\n"
    path.write_text(row * 2)
    with pytest.raises(DataError, match="line 2: duplicate id 0"):
        read_predictions(path, questions)


def test_no_answer_is_an_answer_that_is_wrong(tmp_path, questions):
    rows = [llamafactory(s, None, k) for k, s in enumerate(ASKED)]
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [p.prediction for p in read_predictions(path, questions)] == [""] * 4
    nulls = [vlmevalkit(s, None, k) for k, s in enumerate(ASKED)]
    assert [p.prediction for p in read_predictions(table(tmp_path / "p.csv", nulls))] == [""] * 4


def test_other_archives_are_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(DataError, match="line 1: this is a zip file"):
        read_predictions(tmp_path / "p.zip")


def test_both_sides_of_score_and_report(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_conversations(tmp_path / "test.json", ASKED)
    lines(tmp_path / "after.jsonl", llamafactory)
    lines(tmp_path / "before.jsonl", lmms_eval, said=["no"] * 4)
    rows = [vlmevalkit(s, "yes", k) for k, s in enumerate(ASKED)]
    table(tmp_path / "wrong.tsv", rows)
    asked = ["--questions", "test.json", "--train-questions", "test.json"]
    words = [*asked, "--shuffled", "wrong.tsv", "--against", "before.jsonl", "--json"]
    assert main(["score", "after.jsonl", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    official = found["protocols"]["official"]
    assert (official["n"], found["dataset"]) == (4, "LR")
    assert official["OA"] == 0.75
    assert found["clustered_by"] == "image"
    assert found["against"]["protocols"]["official"]["OA"]["before"] == 0.25
    assert "shuffled_image" in found["controls"]
    sides = ["--after", "after.jsonl", "--before", "before.jsonl", "--shuffled", "wrong.tsv"]
    assert main(["report", *sides, *asked, "-o", "out"]) == 0
    assert "75.0" in (tmp_path / "out/report.md").read_text()
    assert main(["report", "--questions", "test.json"]) == 2
