"""``score`` at the command line."""

import json
import subprocess
import sys

import pytest

from qwen2vl_rs.cli import main

ASKED = [
    ("Is there a road?", "yes"),
    ("Is there a park?", "no"),
    ("How many roads are there?", "7"),
]


def write_lines(path, said, images=4, **more):
    rows = []
    for image in range(images):
        for k, (question, answer) in enumerate(ASKED):
            row = {"id": f"{image}-{k}", "image": f"{image}.tif", "question": question}
            rows.append({**row, "answer": answer, "prediction": said(answer), **more})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def files(tmp_path):
    after = write_lines(tmp_path / "after.jsonl", lambda a: a, confidence=0.8)
    before = write_lines(tmp_path / "before.jsonl", lambda a: "no")
    train = tmp_path / "train.jsonl"
    train.write_text("".join(json.dumps({"question": q, "answer": "yes"}) + "\n" for q, _ in ASKED))
    return after, before, train


def scored(capsys, *args):
    assert main(["score", *map(str, args)]) == 0
    out, err = capsys.readouterr()
    assert not err
    return out


def test_every_protocol_and_control_as_json(files, capsys):
    after, before, train = files
    told = ("--train-questions", train, "--against", before, "--shuffled", before, "--json")
    found = json.loads(scored(capsys, after, *told))
    assert list(found["protocols"]) == ["official", "geochat", "raw", "original"]
    official = found["protocols"]["official"]
    assert official["n"] == 12
    assert official["OA"] == official["types"]["count"]["accuracy"] == 1
    assert {"n", "OA", "AA", "OA_se", "types"} <= official.keys()
    assert set(found["controls"]) == {"constant", "question_only", "shuffled_image"}
    assert found["visual_gain"]["official"]["OA"] == pytest.approx(1 / 2)  # of presence alone
    assert set(found["left_out"]) == {"controls of count"}  # nobody counts "yes" in training
    assert found["shuffled_cost"]["official"]["OA"] == pytest.approx(2 / 3)
    change = found["against"]["protocols"]["official"]["OA"]
    assert (change["before"], change["after"]) == (pytest.approx(1 / 3), 1)
    assert (change["wins"], change["losses"]) == (8, 0)


def test_text_shows_the_chosen_protocols_and_what_is_missing(files, capsys):
    after, before, _ = files
    out = scored(capsys, after, "--protocol", "geochat", "--protocol", "geochat")
    assert out.count("questions, 95 % intervals") == 1
    assert out.startswith("geochat (unknown data set): 8 questions")
    assert "compared exactly" not in out  # no counts, no areas
    assert "left out: question_only (no training questions were given)" in out
    out = scored(capsys, after, "--against", before, "--protocol", "raw")
    assert "the data set is unknown: counts and areas are compared exactly" in out
    assert f"Against {before}\nraw (unknown data set): 12 questions in both runs" in out


def test_the_data_set_can_be_said(files, capsys, tmp_path):
    near = write_lines(tmp_path / "near.jsonl", lambda a: {"7": "6"}.get(a, a))
    for dataset, want in (("LR", 1), ("HR", 0)):
        found = json.loads(scored(capsys, near, "--dataset", dataset, "--json"))
        assert found["protocols"]["official"]["types"]["count"]["accuracy"] == want


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nothing.jsonl"], "cannot read nothing.jsonl"),
        (["{after}", "--protocol", "geo-chat"], "did you mean geochat?"),
        (["{after}", "--train-questions", "nothing.csv"], "nothing.csv"),
        (["{after}", "--against", "{train}"], "prediction is missing"),
    ],
)
def test_failures_have_a_hint(files, capsys, monkeypatch, tmp_path, args, said):
    monkeypatch.chdir(tmp_path)
    names = {"after": files[0], "train": files[2]}
    assert main(["score", *(a.format(**names) for a in args)]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert said in err
    assert "\nhint: " in err


def test_scoring_needs_no_torch(files):
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'peft', 'safetensors', 'accelerate'):\n"
        "    sys.modules[name] = None\n"
        "from qwen2vl_rs.cli import main\n"
        f"sys.exit(main(['score', {str(files[0])!r}, '--json']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n"] == 12
