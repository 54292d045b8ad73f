"""The memory of pictures only saves time: whatever happens to it, the check goes on."""

import os
import sqlite3

import pytest

from qwen2vl_rs.checking import remembered
from qwen2vl_rs.checking.remembered import Picture, Remembered, cache_file, facts_of
from qwen2vl_rs.config import RasterToRGB

ONE = Picture(56, 40, "TIFF", "ab", False)


@pytest.fixture(autouse=True)
def _own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def remember(path, picture=ONE):
    with Remembered(RasterToRGB()) as known:
        known.add(str(path), facts_of(str(path)), picture)


def recall(path, rule=None):
    with Remembered(rule or RasterToRGB()) as known:
        known.look_up([str(path)])
        return known.get(str(path), facts_of(str(path)))


@pytest.fixture
def image(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9 \xff.tif")  # a name that is not UTF-8
    path.write_bytes(b"pixels")
    return path


def test_a_picture_is_remembered_while_its_file_is_the_same(image, tmp_path, monkeypatch):
    assert recall(image) is None
    remember(image)
    assert recall(image) == ONE
    monkeypatch.chdir(image.parent)
    assert recall(image.name) == ONE  # another spelling of the path
    assert recall(image, RasterToRGB(bands=(3, 2, 1))) is None
    (image.parent / f"{image.name}.aux.xml").write_text("nodata")  # a sidecar changes pixels
    assert recall(image) is None
    (image.parent / f"{image.name}.aux.xml").unlink()
    os.utime(image, ns=(5, 5))
    assert recall(image) is None
    remember(image, Picture(1, 2, "PNG", "cd", True))
    assert recall(image) == Picture(1, 2, "PNG", "cd", True)
    assert [path.name for path in cache_file().parent.iterdir()] == ["pictures.sqlite"]


def test_many_pictures_are_found_in_batches(tmp_path):
    paths = [tmp_path / f"{k}.tif" for k in range(1201)]
    for path in paths:
        path.write_bytes(b"x")
    with Remembered(RasterToRGB()) as known:
        for k, path in enumerate(paths):
            known.add(str(path), facts_of(str(path)), Picture(k, 1, "TIFF", str(k), False))
    with Remembered(RasterToRGB()) as known:
        known.look_up(list(map(str, paths)))
        found = [known.get(str(path), facts_of(str(path))) for path in paths]
    assert [one.width for one in found] == list(range(1201))


@pytest.mark.parametrize("content", [b"not a database" * 100, b""])
def test_a_damaged_memory_is_begun_anew(image, content):
    remember(image)
    cache_file().write_bytes(content)
    assert recall(image) is None
    remember(image)
    assert recall(image) == ONE


def test_a_memory_of_another_layout_is_not_used(image):
    cache_file().parent.mkdir(parents=True)
    with sqlite3.connect(cache_file()) as db:
        db.execute("CREATE TABLE picture (path BLOB)")
    db.close()
    remember(image)
    assert recall(image) is None


def test_a_memory_that_cannot_be_written_is_done_without(image, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    remember(image)
    assert recall(image) is None


def test_a_memory_that_another_process_writes_to_is_done_without(image, monkeypatch):
    monkeypatch.setattr(remembered, "_SECONDS", 0.01)
    remember(image)
    other = sqlite3.connect(cache_file(), isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert recall(image) is None
    remember(image)
    other.execute("ROLLBACK")
    other.close()
    assert recall(image) == ONE
