"""Data sets by the place where they lie."""

import pytest

from factory import make_samples, write_rsvqa
from qwen2vl_rs import datasets
from qwen2vl_rs.datasets.base import Dataset
from qwen2vl_rs.datasets.reading import read_samples
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.errors import DataError


@pytest.fixture
def folder(tmp_path):
    for split, first in (("train", 0), ("test", 4)):
        write_rsvqa(tmp_path, 3, prefix=f"LR_split_{split}_", first=first)
    (tmp_path / "rsvqa_images").rename(tmp_path / "Images_LR")
    return tmp_path


def test_a_split_is_what_its_file_holds(folder):
    found = datasets.RSVQA(folder, split="test")
    assert isinstance(found, Dataset)
    assert found == read_samples(folder / "LR_split_test_questions.json")
    assert found.types == ["comp", "count", "presence", "rural_urban"]
    assert len(found.images) == 3
    assert {one.dataset for one in found} == {"LR"}
    assert isinstance(found[:2], Dataset)
    assert "3 images" in repr(found)


def test_splits_are_named_where_there_are_several(folder):
    with pytest.raises(DataError, match="several splits"):
        datasets.RSVQA(folder)


def test_images_that_were_moved_are_found(folder, tmp_path):
    (folder / "Images_LR").rename(tmp_path / "elsewhere")
    found = datasets.RSVQA(folder, split="test", images=tmp_path / "elsewhere")
    assert all("elsewhere" in image for image in found.images)
    samples = make_samples(tmp_path / "pictures", 2)
    write_conversations(tmp_path / "data.json", samples)
    (tmp_path / "pictures").rename(tmp_path / "moved")
    read = datasets.read(tmp_path / "data.json", images=tmp_path / "moved")
    assert all("moved" in image for image in read.images)
    assert len(read) == len(samples)
