"""All checks together, from the command line and before training."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from factory import make_samples, write_rsvqa
from qwen2vl_rs.checking import parts
from qwen2vl_rs.checking.check import quick_check
from qwen2vl_rs.cli import main
from qwen2vl_rs.datasets.base import Dataset
from qwen2vl_rs.datasets.split import split_by_image
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.raster import opening


@pytest.fixture
def samples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = make_samples(tmp_path / "images", images=6)
    write_conversations(Path("data_vl.json"), found)
    return found


def checked(capsys, *words, code=0):
    assert main(["check", *map(str, words), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def faults(found):
    return {one["check"]: one["count"] for one in found["findings"] if one["verdict"] != "ok"}


def test_good_data_have_no_fault(samples, capsys):
    found = checked(capsys)
    assert found["ok"]
    assert not faults(found)
    assert [part["questions"] for part in found["parts"]] == [40, 8]
    assert found["images"]["sizes"] == [{"width": 56, "height": 56, "count": 6}]
    assert found["tokens"] is None
    assert "--model" in found["not_checked"]["token lengths"]
    (blind,) = found["text_only"]
    assert (blind["part"], blind["score"]["n"]) == ("test", 8)
    assert main(["check"]) == 0
    out, err = capsys.readouterr()
    assert "ok       missing_images" in out
    assert "56 × 56 (6)" in out
    assert "only what a model gains over it comes from the images" in out
    assert "0 errors, 0 warnings" in err
    assert not [name for name in os.listdir() if name not in ("images", "data_vl.json")]


def test_the_keys_are_those_that_scripts_read(samples, capsys):
    keys = "ok errors warnings dataset parts left_out findings answers images tokens text_only"
    assert list(checked(capsys)) == [*keys.split(), "not_checked"]
    finding = checked(capsys)["findings"][0]
    assert list(finding) == ["check", "verdict", "count", "text", "hint", "examples"]


def test_errors_end_with_1_and_name_the_place(samples, capsys):
    os.remove(samples[0].image)
    Path(samples[8].image).write_bytes(Path(samples[8].image).read_bytes()[:999])
    found = checked(capsys, "data_vl.json", code=1)
    assert (found["ok"], found["errors"], found["warnings"]) == (False, 2, 0)
    assert faults(found) == {"missing_images": 1, "unusable_images": 1}
    assert main(["check", "data_vl.json"]) == 1
    out = capsys.readouterr().out
    first = out.index("error    missing_images")
    assert first < out.index("error    unusable_images") < out.index("ok       ")
    assert f"(question 1 of data_vl.json), image {samples[0].image}: no such file" in out
    assert "hint: if the images were moved: --images FOLDER" in out


def test_warnings_alone_end_with_0(samples, capsys):
    write_conversations(Path("data_vl.json"), [*samples, replace(samples[0], id="again")])
    assert faults(checked(capsys)) == {"duplicates": 1}


def test_the_place_in_the_file_is_that_of_the_record(samples, capsys):
    rows = json.loads(Path("data_vl.json").read_text())
    rows[12]["id"] = rows[11]["id"]
    rows[44]["conversations"][1]["value"] = " "
    Path("data_vl.json").write_text(json.dumps(rows))
    found = checked(capsys, code=1)
    places = {one["check"]: [e["number"] for e in one["examples"]] for one in found["findings"]}
    assert (places["duplicate_ids"], places["empty_texts"]) == ([13], [45])


def test_leaks_between_given_files(samples, capsys):
    write_conversations(Path("train.json"), samples[:24])
    write_conversations(Path("test.json"), samples[16:])
    found = checked(capsys, "--train", "train.json", "--test", "test.json", code=1)
    assert faults(found) == {"shared_images": 1, "shared_questions": 8}
    (blind,) = found["text_only"]
    assert (blind["train"], blind["dropped"]) == (16, 8)
    alone = checked(capsys, "--train", "train.json")
    assert alone["not_checked"]["leaks"] == "there is only one part"


def test_a_copied_picture_leaks_from_the_split_of_training(samples, capsys, tmp_path):
    """A split by image has it on both sides, as it has two names."""
    copy = tmp_path / "images/copy.tif"
    side = {part["name"]: part for part in checked(capsys)["parts"]}
    assert side["test"]["images"] == 1
    tested = split_by_image(samples)[1][0].image
    copy.write_bytes(Path(tested).read_bytes())
    more = [replace(s, id=f"c{s.id}", image=str(copy)) for s in samples[:8]]
    write_conversations(Path("train.json"), [*(s for s in samples if s.image != tested), *more])
    write_conversations(Path("test.json"), [s for s in samples if s.image == tested])
    found = checked(capsys, "--train", "train.json", "--test", "test.json", code=1)
    assert faults(found) == {"shared_pictures": 1}


def test_two_images_of_one_colour_are_no_leak(samples, capsys):
    for sample in (samples[0], samples[40]):
        Image.new("RGB", (64, 64), "black").save(sample.image)
    write_conversations(Path("train.json"), samples[:24])
    write_conversations(Path("test.json"), samples[24:])
    found = checked(capsys, "--train", "train.json", "--test", "test.json")
    assert faults(found) == {"blank_images": 2}


def test_official_files_are_compared_by_their_ids(tmp_path, capsys):
    for n, split in enumerate(("train", "test")):
        write_rsvqa(tmp_path / "lr", 3, prefix=f"LR_split_{split}_", first=3 * n)
    (tmp_path / "lr/rsvqa_images").rename(tmp_path / "lr/Images_LR")
    found = checked(capsys, tmp_path / "lr")
    assert not faults(found)
    assert "official_ids" in {one["check"] for one in found["findings"]}
    assert found["dataset"] == "LR"


def test_lengths_are_measured_with_a_base(samples, capsys, small_base):
    words = ("--model", small_base, "--set", "training.max_tokens_per_pack=64")
    found = checked(capsys, *words)
    tokens = found["tokens"]
    assert tokens["image"] == {"low": 4, "median": 4.0, "high": 4}
    assert tokens["answer"]["low"] >= 2
    assert tokens["limit"] == 64
    assert main(["check", "--model", str(small_base)]) == 0
    assert "all of one question" in capsys.readouterr().out


def test_a_run_is_checked_with_its_own_copies_and_base(trained, capsys):
    found = checked(capsys, trained[0] / "output/Qwen2-VL-2B")
    assert not faults(found)
    assert [Path(part["file"]).name for part in found["parts"]] == ["train.json", "test.json"]
    assert sum(part["questions"] for part in found["parts"]) == 48
    assert found["tokens"]["image"]["high"] == 4
    assert found["not_checked"] == {}


def test_without_a_base_torch_is_not_needed(samples):
    code = "import sys; from qwen2vl_rs.cli import main; assert main(['check']) == 0\n"
    code += "assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["a.json", "--data", "b.json"], 2),
        (["a.json", "--train", "b.json"], 2),
        (["lost.json"], 1),
        (["--model", "lost"], 1),
        (["--set", "view.max_pixel=1"], 1),
    ],
)
def test_wrong_use_is_told(samples, words, code, capsys):
    assert main(["check", *words]) == code
    assert not capsys.readouterr().out


def test_nothing_that_can_be_read_is_an_error(samples, capsys):
    Path("data_vl.json").write_text("[]")
    found = checked(capsys, code=1)
    assert faults(found) == {"unreadable_files": 1}
    assert found["parts"] == []
    assert main(["check"]) == 1
    assert "no question could be read" in capsys.readouterr().out


def test_before_training_no_image_is_opened(samples, monkeypatch):
    monkeypatch.setattr(opening, "open_named", None)
    train, test = Dataset.of(samples[:24]), Dataset.of(samples[24:])
    assert quick_check(train, test) == []
    wrong = replace(samples[25], id="w", answer="no" if samples[25].answer == "yes" else "yes")
    found = quick_check(train, Dataset.of([*samples[16:], wrong]), Dataset.of(samples[32:40]))
    assert {one.check: (one.verdict, one.count) for one in found} == {
        "contradictions": ("warning", 1),
        "shared_images": ("error", 2),
        "shared_questions": ("error", 8),
    }


def test_before_training_there_may_be_no_questions(samples):
    none = Dataset.of([])
    assert quick_check(none, none, none) == []
    assert quick_check(Dataset.of(samples[:8]), none) == []


def test_before_training_only_repeated_questions_are_read(samples, monkeypatch):
    read = []
    kept = parts.normalise
    monkeypatch.setattr(parts, "normalise", lambda *one: read.append(one) or kept(*one))
    again = replace(samples[3], id="again", answer="9")
    quick_check(Dataset.of([*samples[:24], again]), Dataset.of(samples[24:]))
    assert [one[0] for one in read] == [samples[3].answer, "9"]
