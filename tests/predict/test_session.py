"""``ask`` at the command line, on a trained run."""

import io
import json

import pytest

from qwen2vl_rs.cli import main
from qwen2vl_rs.engine.candidates import choose_candidates
from qwen2vl_rs.predict.session import Session

ROAD, URBAN, COUNT = "Is there a road?", "Is it a rural or an urban area?", "How many roads?"


@pytest.fixture
def here(trained, monkeypatch):
    monkeypatch.chdir(trained[0])
    return trained[0]


def out_of(capsys, *args):
    assert main(["ask", "output/Qwen2-VL-2B", *args]) == 0
    return capsys.readouterr().out


def test_one_answer_is_that_answer_alone(here, capsys):
    said = out_of(capsys, "images/0.tif", ROAD)
    assert said.count("\n") == 1
    assert "\t" not in said


def test_every_question_is_asked_of_every_image(here, capsys):
    lines = out_of(capsys, "images/0.tif", ROAD, URBAN, "-i", "images/1.tif").splitlines()
    columns = [line.split("\t") for line in lines]
    assert [c[:2] for c in columns] == [
        [f"images/{i}.tif", q] for i in (0, 1) for q in (ROAD, URBAN)
    ]
    alone = [out_of(capsys, c[0], c[1]).strip() for c in columns]
    assert [c[2] for c in columns] == alone


def test_closed_answers_have_exact_probabilities(here, capsys):
    told = ("images/0.tif", ROAD, URBAN, COUNT, "--answers", "closed", "--json")
    rows = json.loads(out_of(capsys, *told))
    session = Session.open(here / "output/Qwen2-VL-2B")
    words = [("yes", "no"), ("rural", "urban")]
    asked = list(zip((ROAD, URBAN), words, strict=True))
    (wanted,) = choose_candidates(
        session.base, session.model, [(session.read("images/0.tif"), asked)]
    )
    for row, choice, own in zip(rows, wanted, words, strict=False):
        assert set(row["probabilities"]) == set(own)
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=2e-6)
        assert row["answer"] == choice.text
        assert row["confidence"] == pytest.approx(max(choice.shares), abs=2e-6)
    assert "probabilities" not in rows[2]  # a number is written


def test_before_stands_beside(here, capsys):
    (row,) = json.loads(out_of(capsys, "images/0.tif", ROAD, "--before", "--json"))
    run = Session.open(here / "output/Qwen2-VL-2B")
    base = Session.open(run.base.folder)
    ((plain,),) = base.ask([(base.read("images/0.tif"), [ROAD])])
    assert row["before"]["answer"] == plain.text
    assert main(["ask", str(base.base.folder), "images/0.tif", ROAD, "--before"]) == 2


def test_before_is_asked_in_the_same_way(here, capsys):
    (row,) = json.loads(
        out_of(capsys, "images/0.tif", ROAD, "--before", "--answers", "closed", "--json")
    )
    assert set(row["probabilities"]) == set(row["before"]["probabilities"]) == {"yes", "no"}
    assert row["before"]["answer"] in {"yes", "no"}


@pytest.mark.parametrize("stdin", [True, False])
def test_a_batch_is_answered_in_its_order(here, capsys, monkeypatch, tmp_path, stdin):
    asked = [(i, q) for q in (ROAD, COUNT) for i in ("images/1.tif", "images/0.tif")]
    lines = [json.dumps({"id": n, "image": i, "question": q}) for n, (i, q) in enumerate(asked)]
    text = "\ufeff" * (not stdin) + "\n\n".join(lines)
    (tmp_path / "batch.jsonl").write_text(text, encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    said = out_of(capsys, "--batch", "-" if stdin else str(tmp_path / "batch.jsonl"))
    rows = [json.loads(line) for line in said.splitlines()]
    assert [(r["id"], r["image"], r["question"]) for r in rows] == [
        (n, i, q) for n, (i, q) in enumerate(asked)
    ]
    for row in rows:
        assert row["answer"] == out_of(capsys, row["image"], row["question"]).rstrip("\n")


@pytest.mark.parametrize(("stdin", "end"), [(True, "\n"), (False, "\r\n")], ids=["-", "file"])
def test_lines_of_a_batch_end_at_line_feeds_alone(here, capsys, monkeypatch, tmp_path, stdin, end):
    """Other separators stand in texts, as JSON allows and many programs write them."""
    asked = [f"{ROAD}{mark}{COUNT}" for mark in "\u2028\u2029\x85\x7f"]
    lines = [
        json.dumps({"image": "images/0.tif", "question": q}, ensure_ascii=False) for q in asked
    ]
    path = tmp_path / "batch.jsonl"

    def put(*more):
        path.write_bytes(end.join([*lines, *more]).encode())
        raw = io.TextIOWrapper(io.BytesIO(path.read_bytes()), "utf-8")
        monkeypatch.setattr("sys.stdin", raw)
        return "-" if stdin else str(path)

    said = out_of(capsys, "--batch", put())
    assert [json.loads(line)["question"] for line in said.rstrip("\n").split("\n")] == asked
    assert main(["ask", "output/Qwen2-VL-2B", "--batch", put("{")]) == 1
    assert "line 5: not JSON" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "holds no questions"), ("{", "line 1: not JSON"), ("[]", "line 1: image and question"),
        ('{"image": "a.tif", "question": " "}', "line 1: image and question"),
        ('{"image": "nowhere.tif", "question": "Is there a road?"}', "no such file"),
        (b"\xff", "not UTF-8"), ('{"question": "\u6709"}'.encode("gbk"), "iconv -f GBK -t UTF-8"),
    ],
)  # fmt: skip
def test_bad_batches(here, capsys, tmp_path, text, why):
    path = tmp_path / "batch.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert main(["ask", "output/Qwen2-VL-2B", "--batch", str(path)]) == 1
    assert why in capsys.readouterr().err


def test_files_folders_and_patterns_are_images(here, capsys):
    names = [f"images/{i}.tif" for i in range(3)]
    by_name = [line.split("\t") for line in out_of(capsys, *names, ROAD).splitlines()]
    assert [image for image, _ in by_name] == names
    assert [answer for _, answer in by_name] == [out_of(capsys, n, ROAD).strip() for n in names]
    rows = json.loads(out_of(capsys, "images", ROAD, COUNT, "--json"))
    assert [(r["image"], r["question"]) for r in rows[:6]] == [(n, q) for n in names
                                                               for q in (ROAD, COUNT)]  # fmt: skip
    assert len(rows) == 12
    assert json.loads(out_of(capsys, "images/*.tif", ROAD, COUNT, "--json")) == rows


@pytest.mark.parametrize("command", ["ask", "map"])
def test_a_file_is_no_question(here, capsys, command):
    for word, why in (("data_vl.json", "data_vl.json is a file and not an image"),
                      ("gone.tif", "gone.tif: no such file"),
                      ("*.png", "no file matches *.png")):  # fmt: skip
        words = [command, "output/Qwen2-VL-2B", "images/0.tif", word, ROAD]
        assert main(words) == 1
        out, err = capsys.readouterr()
        assert not out
        assert why in err
    assert main([command, "output/Qwen2-VL-2B", "images/0.tif", "images/1.tif"]) == 2
