"""Images and folders that are not where they were: found again, or said before the long imports."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bases import SETTINGS
from factory import write_rsvqa
from qwen2vl_rs.cli import main
from qwen2vl_rs.config_file import load_config
from qwen2vl_rs.datasets.image_paths import find_in_folder, suggestion
from qwen2vl_rs.datasets.tables import read_conversations

RUN = "output/Qwen2-VL-2B"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_rsvqa(tmp_path)


def told(capsys, *words):
    """Exit code and what was said on stderr."""
    code = main([str(word) for word in words])
    return code, capsys.readouterr().err


def folders_of(name):
    return {os.path.dirname(s.image) for s in read_conversations(Path(name))}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/old/rsvqa_images/1.tif", "1.tif"),
        ("rsvqa_images/1.tif", "1.tif"),
        ("/old/b/1.tif", "b/1.tif"),
        ("C:\\data\\b\\1.tif", "b/1.tif"),
        ("D:/data/b/1.tif", "b/1.tif"),
        ("C:\\data/b\\1.tif", "b/1.tif"),
        ("C:/data\\b/1.tif", "b/1.tif"),
        ("\\\\server\\share/b\\1.tif", "b/1.tif"),
        ("/old/b\\1.tif", "b\\1.tif"),  # elsewhere a backslash may be part of a name
        ("\\\\server\\share\\1.tif", "1.tif"),
        ("b\\1.tif", "b/1.tif"),
        ("1.tif", "1.tif"),
        ("/old/c/3.tif", "old/c/3.tif"),
    ],
)
def test_an_image_is_the_file_with_the_longest_end_of_its_path(tmp_path, path, found):
    for name in ("1.tif", "b/1.tif", "b\\1.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_in_folder(tmp_path, path) == str(tmp_path / found)


def test_a_renamed_image_folder_is_taken_with_the_official_layout(here, capsys):
    shutil.move("rsvqa_images", "pictures")
    code, err = told(capsys, "data2csv", "--folder", ".")
    assert (code, err.count("--images FOLDER")) == (1, 1)
    code, err = told(capsys, "data2csv", "--folder", ".", "--images", "pictures")
    assert code == 0, err
    assert f"{here}/pictures/0.tif" in Path("rsvqa-dataset.csv").read_text()


@pytest.mark.parametrize("inner", ["RSVQA", "rsvqa_images"])
def test_what_was_unpacked_one_folder_too_deep_is_found(here, capsys, inner):
    if inner == "RSVQA":
        Path("outer").mkdir()
        Path("moving").mkdir()
        for path in [p for p in here.iterdir() if p.name not in ("outer", "moving")]:
            path.rename(Path("moving") / path.name)
        Path("moving").rename("outer/RSVQA")
        folder, images = "outer", here / "outer/RSVQA/rsvqa_images"
    else:
        Path("rsvqa_images").rename("deep")
        Path("rsvqa_images").mkdir()
        Path("deep").rename("rsvqa_images/rsvqa_images")
        folder, images = ".", here / "rsvqa_images/rsvqa_images"
    code, err = told(capsys, "data2csv", "--folder", folder, "-o", "t.csv")
    assert code == 0, err
    assert f"\n{images}/0.tif," in Path("t.csv").read_text()


def test_csv2json_says_which_images_are_not_there_and_takes_their_folder(here, capsys):
    assert main(["data2csv"]) == 0
    shutil.move("rsvqa_images/0.tif", "0.tif")
    capsys.readouterr()
    code, err = told(capsys, "csv2json")
    assert code == 0
    (warning,) = [line for line in err.splitlines() if line.startswith("warning")]
    assert f"1 of 6 images not found, e.g. {here}/rsvqa_images/0.tif:" in warning
    shutil.move("0.tif", "rsvqa_images/0.tif")
    shutil.move("rsvqa_images", "pictures")
    code, err = told(capsys, "csv2json")
    assert "6 of 6 images not found" in err
    assert "(nor is its folder)" in err
    code, err = told(capsys, "csv2json", "--images", "pictures")
    assert code == 0
    assert "warning" not in err.replace("is replaced", "").replace(
        "warning: data_vl.json contained", ""
    )
    assert {os.path.dirname(s.image) for s in read_conversations(Path("data_vl.json"))} == {
        "pictures"
    }
    for folder, said in (("nowhere", "no folder nowhere"), (".git", "no folder"), ("output", "")):
        Path("output").mkdir(exist_ok=True)
        code, err = told(capsys, "csv2json", "--images", folder)
        assert code == 1
        assert said in err


def test_windows_paths_are_named(here, capsys):
    Path("t.csv").write_text("image_path,question,answer\nC:\\data\\0.tif,Is there a road?,yes\n")
    code, err = told(capsys, "csv2json", "-i", "t.csv")
    assert code == 0
    assert "C:\\data\\0.tif (a Windows path)" in err
    code, err = told(capsys, "csv2json", "-i", "t.csv", "--images", "rsvqa_images")
    assert code == 0
    assert [s.image for s in read_conversations(Path("data_vl.json"))] == ["rsvqa_images/0.tif"]


OTHERS = {
    "COCO": {"info": {}, "images": [], "annotations": []},
    "GeoJSON": {"type": "FeatureCollection", "features": []},
    "JSON Lines without an image": {"question": "?", "answer": "yes"},
    "samples of lmms-eval": {"doc_id": 0, "target": "yes", "resps": [["yes"]]},
    "predictions of LLaMA-Factory": {"prompt": "?", "predict": "yes", "label": "yes"},
    "results of ms-swift": {"response": "yes", "labels": "yes", "messages": [], "images": ["1"]},
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_programs_json_is_named_for_what_it_is(here, capsys, name):
    Path("other.json").write_text(json.dumps(OTHERS[name]))
    code, err = told(capsys, "train", "--data", "other.json")
    assert code == 1
    assert name in err
    assert "image_path,question,answer" in err
    code, err = told(capsys, "csv2json", "-i", "other.json")
    assert code == 1
    assert "not a CSV table" in err


WRONG = [
    ("train", "no file data_vl.json", "data2csv, then qwen2vl-rs csv2json"),
    ("train --data data_vlm.json", "no file data_vlm.json", "check the name"),
    ("train --train a.csv --test b.csv", "no file a.csv", "data2csv --output a.csv"),
    ("train x.toml", "no configuration file x.toml", "defaults"),
    ("train --set lora.rr=1", "unknown key lora.rr", ""),
    ("train --resume", f"nothing to resume in {RUN}", "without --resume"),
    ("train --data sound.json", "Qwen/Qwen2-VL-2B-Instruct is not a model", "load Qwen/Qwen2-VL"),
    ("train --data gone.json", "no such file", "--images"),
    ("train --data sound.json --images no", "no folder", "--images"),
    ("eval output/none", "output/none is not a model", "train first"),
    ("eval outptu", "outptu is not a model", "did you mean output?"),
    ("eval . --test no.json", "no file no.json", ""),
    ("eval . --base no", "no is not a model", "--base"),
    ("eval sound.json", "it is a file, not a folder", ""),
    ("compare", f"no run folder {RUN}", "train first"),
    ("compare --run . --test no.json", "no file no.json", ""),
    ("ask org/model rsvqa_images/0.tif Is?", "org/model is not a model", "load org/model"),
    ("ask . no.tif Is?", "no.tif: no such file", ""),
    ("map none rsvqa_images/0.tif Is?", "none is not a model", "qwen2vl-rs load"),
    ("serve none", "none is not a model", "qwen2vl-rs load"),
]
ALL_OF_THEM = """
import contextlib, io, json, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {'torch', 'transformers', 'peft'}:
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)
sys.meta_path.insert(0, Absent())
from qwen2vl_rs.__main__ import main
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = main(words)
    print(json.dumps([code, said.getvalue()]))
"""


def test_wrong_names_are_found_before_torch_is_imported(here):
    Path("output").mkdir()
    image = f"<|vision_start|>{here}/rsvqa_images/0.tif<|vision_end|>"
    turns = [{"from": "user", "value": f"Is? {image}"}, {"from": "assistant", "value": "yes"}]
    text = json.dumps([{"id": "1", "conversations": turns}])
    Path("sound.json").write_text(text)
    Path("gone.json").write_text(text.replace("0.tif", "99.tif"))
    done = subprocess.run(
        [sys.executable, "-c", ALL_OF_THEM, json.dumps([w.split() for w, _, _ in WRONG])],
        text=True, capture_output=True, check=True,
    )  # fmt: skip
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    for (words, error, hint), (code, err) in zip(WRONG, outcomes, strict=True):
        assert code == 1, words
        said = err.splitlines()
        assert any(line.startswith("error:") and error in line for line in said), (words, err)
        assert hint in said[-1], (words, err)


def test_each_step_names_the_one_before_it(here, capsys, tmp_path):
    """From an empty folder, what the hints say leads to the data."""
    for name in ("rsvqa_questions.json", "rsvqa_answers.json"):
        Path(name).rename(f"{name}.away")
    code, err = told(capsys, "train")
    steps = re.findall(r"qwen2vl-rs (\w+)", err)
    assert (code, steps) == (1, ["data2csv", "csv2json"])
    code, err = told(capsys, "data2csv")
    assert (code, "no file rsvqa_questions.json" in err) == (1, True)
    for name in ("rsvqa_questions.json", "rsvqa_answers.json"):
        Path(f"{name}.away").rename(name)
    for step in steps:
        assert main([step]) == 0
    capsys.readouterr()
    code, err = told(capsys, "train")
    assert (code, err.splitlines()[-1]) == (
        1,
        "hint: download it: qwen2vl-rs load Qwen/Qwen2-VL-2B-Instruct; without a network, "
        "qwen2vl-rs demo writes a small one: demo/base",
    )


def test_training_and_evaluation_follow_images_that_are_moved(here, small_base, capsys):
    assert main(["data2csv"]) == main(["csv2json"]) == 0
    shutil.move("rsvqa_images", "second")
    more = (f"model={small_base}", "training.max_steps=1", "eval.max_eval=8")
    settings = [w for s in (*SETTINGS, *more) for w in ("--set", s)]
    assert main(["train", *settings]) == 1
    assert "--images FOLDER" in capsys.readouterr().err
    assert main(["train", *settings, "--images", "second", "--max-train", "20"]) == 0
    assert "using 16 of 32 training questions" in capsys.readouterr().err
    assert load_config(Path(RUN, "config.toml")).data.images == str(here / "second")
    assert all(
        s.image.startswith(f"{here}/second/")
        for s in read_conversations(Path("data_vl_train.json"))
    )
    shutil.move("second", "third")
    shutil.rmtree(Path(RUN, "eval"))
    assert main(["train", f"{RUN}/config.toml", "--resume", "--images", "third"]) == 0
    shutil.move("third", "fourth")
    capsys.readouterr()
    assert main(["eval", RUN, "-o", "e", "--images", "fourth"]) == 0
    err = capsys.readouterr().err
    assert "evaluating" not in err or "(1 whole image)" in err
    rows = [json.loads(line) for line in Path("e/predictions.jsonl").read_text().splitlines()]
    assert len(rows) == 8
    assert {os.path.dirname(row["image"]) for row in rows} == {f"{here}/fourth"}
    Path("fourth/0.tif").write_bytes(Path("fourth/1.tif").read_bytes())  # another image
    assert main(["train", f"{RUN}/config.toml", "--resume", "--images", "fourth"]) == 1
    assert "changed since training started" in capsys.readouterr().err


def test_nobody_is_led_to_the_test_questions(tmp_path):
    (tmp_path / "data_vl_test.json").touch()
    assert suggestion(tmp_path / "data_vl.json") == ""
    assert "data_vl_test.json" in suggestion(tmp_path / "data_vl_tests.json")
    (tmp_path / "data_vl_train.json").touch()
    assert "data_vl_train.json" in suggestion(tmp_path / "data_vl_trian.json")
