"""Where questions come from: files, parts, folders of data sets, runs, settings."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from factory import make_samples, write_rsvqa, write_run
from qwen2vl_rs.checking.sources import find_inputs, read_questions
from qwen2vl_rs.datasets.base import Dataset
from qwen2vl_rs.datasets.split import split_by_image
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.errors import ConfigError, DataError


@pytest.fixture
def samples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = make_samples(tmp_path / "images", images=5)
    write_conversations(Path("data_vl.json"), found)
    return found


def read(data=None, settings=(), **parts):
    return read_questions(find_inputs(data, parts, settings))


def named(found):
    return {part.name: len(part.questions) for part in found.parts}


def faults(found):
    return {one.check: one for one in found.findings if one.verdict != "ok"}


def test_without_words_it_is_the_file_and_the_split_of_training(samples):
    found = read(settings=("data.test_fraction=0.4", "training.seed=7"))
    sides = split_by_image(samples, 0.4, 7)
    assert [list(part.questions) for part in found.parts] == [list(side) for side in sides]
    assert [part.file for part in found.parts] == ["data_vl.json"] * 2
    assert not faults(found)
    assert named(read(settings=("data.split_by=question", "data.test_fraction=0.25"))) == {
        "train": 30,
        "test": 10,
    }


def test_settings_may_name_the_parts(samples):
    write_conversations(Path("t.json"), samples[:8])
    Path("config.toml").write_text('[data]\ntrain = "data_vl.json"\ntest = "t.json"\n')
    assert named(read(Path("config.toml"))) == {"train": 40, "test": 8}


def test_parts_may_be_files_or_in_memory(samples):
    found = read(train=Path("data_vl.json"), val=Dataset.of(samples[:3]))
    assert named(found) == {"train": 40, "val": 3}
    assert [part.file for part in found.parts] == ["data_vl.json", ""]
    with pytest.raises(ConfigError, match="questions to split and parts"):
        find_inputs(Path("data_vl.json"), {"train": Path("data_vl.json")})


def test_a_folder_as_published_has_its_splits_in_their_order(tmp_path):
    for n, split in enumerate(("test", "val", "train", "test_phili")):
        write_rsvqa(tmp_path / "hr", 2, prefix=f"USGS_split_{split}_", first=2 * n)
    (tmp_path / "hr/rsvqa_images").rename(tmp_path / "hr/Data")
    found = read(tmp_path / "hr")
    assert list(named(found)) == ["train", "val", "test", "test_phili"]
    assert list(found.official) == list(named(found))
    moved = shutil.move(tmp_path / "hr/Data", tmp_path / "elsewhere")
    found = read(tmp_path / "hr", (f"data.images={moved}",))
    assert found.parts[0].questions[0].image == str(tmp_path / "elsewhere/4.tif")


def test_a_folder_with_one_file_is_split(tmp_path):
    write_rsvqa(tmp_path / "own", 4)
    assert list(named(read(tmp_path / "own"))) == ["train", "test"]


def test_a_published_file_of_another_data_set(tmp_path):
    rows = {
        str(k): {
            "Image_ID": f"{k % 3}.JPG",
            "Question": "Is the road flooded?",
            "Ground_Truth": "Yes",
            "Question_Type": "Yes_No",
        }
        for k in range(6)
    }
    for name in ("Training Question.json", "Test Question.json"):
        (tmp_path / name).write_text(json.dumps(rows))
    assert named(read(tmp_path)) == {"train": 6, "test": 6}
    shutil.copy(tmp_path / "Test Question.json", tmp_path / "Test Question (1).json")
    with pytest.raises(DataError, match="several files of the split 'test'"):
        read(tmp_path)


def test_a_folder_that_is_none_names_the_files_in_it(samples, tmp_path):
    with pytest.raises(DataError) as error:
        find_inputs(tmp_path, {})
    assert error.value.hint == f"name the file: qwen2vl-rs check {tmp_path / 'data_vl.json'}"
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="neither a known data set nor a run"):
        find_inputs(tmp_path / "empty", {})


def test_a_run_has_its_own_copies(samples, tmp_path):
    run = write_run(tmp_path)
    for name in ("train", "test", "val"):
        own = samples[: {"train": 24, "test": 8, "val": 16}[name]]
        write_conversations(run / "data" / f"{name}.json", own)
    (run / "manifest.json").unlink()
    assert named(read(run)) == {"train": 24, "val": 16, "test": 8}
    (run / "data/val.json").unlink()
    assert named(read(run)) == {"train": 24, "test": 8}


def test_a_file_is_read_as_far_as_possible(samples):
    whole = Path("data_vl.json").read_text()
    Path("data_vl.json").write_text(whole[: len(whole) // 2])
    found = read()
    assert sum(named(found).values()) in range(15, 21)
    fault = faults(found)["unreadable_files"]
    assert fault.verdict == "error"
    assert "truncated after record" in fault.text
    assert fault.text.endswith("questions before it")
    Path("data_vl.json").write_text("[]")
    found = read()
    assert found.parts == []
    assert "contains no records" in faults(found)["unreadable_files"].text
    with pytest.raises(DataError, match=r"no file lost\.json"):
        read(Path("lost.json"))


def test_empty_texts_and_equal_ids_are_read(samples):
    rows = [replace(samples[0], answer="yes"), *samples[1:]]
    write_conversations(Path("data_vl.json"), rows)
    text = json.loads(Path("data_vl.json").read_text())
    text[2]["id"] = text[1]["id"]
    text[3]["conversations"][1]["value"] = " "
    Path("data_vl.json").write_text(json.dumps(text))
    found = read()
    assert sum(named(found).values()) == 40
    assert not faults(found)


def test_what_is_left_out_is_counted(tmp_path):
    folder = write_rsvqa(tmp_path / "own", 4)
    (folder / "rsvqa_images/2.tif").unlink()
    asked = json.loads((folder / "rsvqa_questions.json").read_text())
    asked["questions"][0]["active"] = False
    asked["questions"][1]["answers_ids"] = [999]
    (folder / "rsvqa_questions.json").write_text(json.dumps(asked))
    found = read(folder / "rsvqa_questions.json")
    assert found.left_out == {
        "data": {"inactive": 1, "without an answer": 1, "without an image": 8}
    }
    fault = faults(found)["left_out"]
    assert (fault.verdict, fault.count) == ("warning", 9)
    assert "8 without an image (image ids 2)" in fault.text
    assert "inactive" not in fault.text  # stubs of other splits are no fault


def test_one_image_cannot_be_split(samples):
    write_conversations(Path("data_vl.json"), samples[:8])
    found = read()
    assert named(found) == {"data": 8}
    assert faults(found)["no_split"].verdict == "error"


def test_images_that_were_moved_are_found(samples, tmp_path):
    (tmp_path / "images").rename(tmp_path / "moved")
    found = read(settings=('data.images="moved"',))
    assert all(Path(one).is_file() for part in found.parts for one in part.questions.images)
    with pytest.raises(DataError, match="no folder nowhere"):
        read(settings=('data.images="nowhere"',))
