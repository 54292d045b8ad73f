"""What is in two parts: images, pictures, questions, official ids."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from factory import make_samples, write_rsvqa
from qwen2vl_rs.checking.leaks import official_ids, shared_images, shared_pictures, shared_questions
from qwen2vl_rs.checking.parts import Part, Parts
from qwen2vl_rs.datasets.base import Dataset


def parts(**given):
    return Parts([Part(name, Dataset.of(rows)) for name, rows in given.items()])


@pytest.fixture
def samples(tmp_path):
    return make_samples(tmp_path / "images", images=4)  # eight questions about each


def test_parts_about_different_images_share_nothing(samples):
    apart = parts(train=samples[:16], test=samples[16:])
    digests = {s.image: s.image for s in samples}
    for found in (shared_images(apart), shared_questions(apart), shared_pictures(apart, digests)):
        assert (found.verdict, found.count) == ("ok", 0)


def test_an_image_is_the_same_file_under_every_spelling(samples, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.symlink(samples[0].image, "link.tif")
    spelt = [replace(samples[1], image="link.tif"), replace(samples[9], image="images/1.tif")]
    found = shared_images(parts(train=samples[:16], val=samples[16:24], test=spelt))
    assert (found.verdict, found.count) == ("error", 2)
    assert found.text == "2 images are in train and test"
    assert found.examples[0].image == "link.tif"
    assert found.examples[0].detail == "also in train"


def test_each_pair_of_parts_is_compared(samples):
    found = shared_images(parts(train=samples[:8], val=samples[:16], test=samples[8:24]))
    assert found.text == "1 image is in train and val; 1 image is in val and test"
    assert (found.verdict, found.count) == ("error", 2)
    found = shared_images(parts(train=samples[:8], test=samples[8:24], test_phili=samples[16:]))
    assert found.text == "1 image is in test and test_phili"
    assert found.verdict == "warning"  # the model is not trained on it


def test_questions_of_training_are_found_by_image_and_wording_not_by_id(samples):
    taught = [replace(s, id=f"t{s.id}", question=f"{s.question.upper()} ") for s in samples[:8]]
    found = shared_questions(parts(train=[*taught[:3], *samples[9:]], test=samples[:9]))
    assert (found.verdict, found.count) == ("error", 3)
    assert found.examples[0].detail == "in train as trsvqa_1"
    same = shared_questions(parts(train=samples[8:10], test=samples[9:]))
    assert (same.count, same.examples[0].detail) == (1, "in train with the same id")
    renumbered = [replace(s, id=samples[k].id) for k, s in enumerate(samples[16:])]
    assert shared_questions(parts(train=samples[:16], test=renumbered)).count == 0
    assert shared_questions(parts(val=samples, test=samples)).count == 0  # none is trained on


def test_a_picture_under_two_names_leaks_between_parts_and_is_doubled_in_one(samples):
    digests = {s.image: s.image for s in samples}
    digests[samples[8].image] = digests[samples[0].image]
    split = parts(train=samples[:8], test=samples[8:])
    found = shared_pictures(split, digests)
    assert (found.verdict, found.count) == ("error", 1)
    assert found.examples[0].image == samples[8].image
    assert found.examples[0].detail == f"the same picture as {samples[0].image} (train)"
    assert shared_pictures(parts(train=samples), digests).verdict == "warning"
    assert shared_pictures(split, {}).verdict == "ok"
    others = parts(train=samples[24:], val=samples[:8], test=samples[8:24])
    assert shared_pictures(others, digests).verdict == "warning"


def official(folder: Path, change) -> dict[str, Path]:
    """The question files of two splits with ids over both, after a change of the records."""
    files = {}
    for name, first in (("train", 0), ("test", 3)):
        write_rsvqa(folder, 3, prefix=f"LR_split_{name}_", first=first)
        files[name] = folder / f"LR_split_{name}_questions.json"
    train, test = (json.loads(f.read_text())["questions"] for f in files.values())
    for record in test:
        record["id"] += 100
    change(train, test)
    for file, rows in zip(files.values(), (train, test), strict=True):
        file.write_text(json.dumps({"questions": rows}))
    return files


def stubs(records):
    return [{"id": record["id"], "active": False} for record in records]


def test_stubs_of_evaluation_questions_are_not_trained_on(tmp_path, samples):
    files = official(tmp_path, lambda train, test: train.extend(stubs(test)))
    found = official_ids(parts(train=samples), files)
    assert found.verdict == "ok"
    assert "24 are inactive there" in found.text


def test_an_active_evaluation_question_in_the_training_file_is_a_leak(tmp_path, samples):
    def change(train, test):
        train += [*test[:2], *stubs(test[2:])]
        test += stubs(train[:5])

    found = official_ids(parts(train=samples), official(tmp_path, change))
    assert (found.verdict, found.count) == ("error", 2)
    assert [one.id for one in found.examples] == ["100", "101"]


def test_files_that_are_numbered_anew_have_other_questions_under_the_same_ids(tmp_path, samples):
    def change(train, test):
        for k, record in enumerate(test):
            record["id"] = k

    assert official_ids(parts(train=samples), official(tmp_path, change)).verdict == "ok"
