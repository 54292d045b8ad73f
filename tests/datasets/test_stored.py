"""A run's questions as columns beside its JSON, which alone counts."""

import os
from pathlib import Path

import pyarrow as pa
import pytest

from qwen2vl_rs.datasets import stored
from qwen2vl_rs.datasets.reading import read_samples
from qwen2vl_rs.datasets.stored import _digest, read_stored, store
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.system.files import sha256
from qwen2vl_rs.types import Sample


def asked(n, answer="yes"):
    return [
        Sample(f"q{k}", f"/i{k % 3}.tif", f"Is there a road {k % 5}?", answer) for k in range(n)
    ]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "train.json"
    write_conversations(path, asked(40))
    return path


@pytest.fixture
def read_again(monkeypatch):
    """How often the JSON was read."""
    seen = []
    monkeypatch.setattr(
        stored, "read_samples", lambda path: seen.append(path) or read_samples(path)
    )
    return seen


def test_the_columns_are_made_once(path, read_again):
    first, second = read_stored(path), read_stored(path)
    assert first == second == asked(40)
    assert len(read_again) == 1
    table = pa.ipc.open_file(path.with_suffix(".arrow")).read_all()
    assert table.schema.metadata[b"sha256"].decode() == sha256(path)


def test_what_was_split_is_stored_as_it_is_read(path, read_again):
    store(path, asked(40))
    assert read_stored(path) == read_samples(path)
    assert not read_again


def test_of_another_content_they_are_not_believed(path, read_again):
    read_stored(path)
    write_conversations(path, asked(40, "no"))
    assert read_stored(path) == asked(40, "no") == read_stored(path)
    assert len(read_again) == 2


def test_damage_anywhere_is_noticed_and_mended(path, read_again):
    read_stored(path)
    place = path.with_suffix(".arrow")
    whole = place.read_bytes()
    for at in range(0, len(whole), 97):
        place.write_bytes(whole[:at] + bytes([whole[at] ^ 0x21]) + whole[at + 1 :])
        assert read_stored(path) == asked(40), at
        place.write_bytes(whole[:at])
        assert read_stored(path) == asked(40), at
        assert place.read_bytes() == whole, at


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_only_be_read(path):
    path.parent.chmod(0o500)
    assert read_stored(path) == asked(40)
    path.parent.chmod(0o700)


def test_a_place_that_cannot_be_written(path):
    path.with_suffix(".arrow").mkdir()
    assert read_stored(path) == asked(40)


@pytest.mark.parametrize("name", ["plain", "n\udcff", "道路"])
def test_a_folder_of_any_name(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    samples = [Sample(str(n), "a.tif", "Is there a road?", "yes") for n in range(3)]
    write_conversations(folder / "train.json", samples)
    for _ in range(2):  # the second time from the columns
        assert list(read_stored(folder / "train.json")) == samples
    assert (folder / "train.arrow").is_file()


def test_what_cannot_be_written_or_is_no_file_ends_nothing(tmp_path):
    samples = [Sample("0", "a.tif", "Is there a road?", "yes")]
    write_conversations(tmp_path / "train.json", samples)
    for kind in (Path.mkdir, os.mkfifo):
        kind(tmp_path / "train.arrow")
        assert list(read_stored(tmp_path / "train.json")) == samples
        path = tmp_path / "train.arrow"
        path.rmdir() if path.is_dir() else path.unlink()


def test_columns_without_values_or_of_another_kind_are_not_believed(tmp_path):
    path = tmp_path / "train.json"
    write_conversations(path, [Sample("0", "a.tif", "Is there a road?", "yes")])
    good = read_stored(path)
    place = path.with_suffix(".arrow")
    whole = pa.ipc.open_file(place.read_bytes()).read_all()
    ids = pa.array([None], pa.large_string())
    for change in (lambda t: t.set_column(0, "id", ids), lambda t: t.drop_columns(["manner"])):
        table = change(whole)
        facts = {**whole.schema.metadata, b"content": _digest(table).encode()}
        with pa.ipc.new_file(place, table.schema.with_metadata(facts)) as writer:
            writer.write_table(table)
        assert list(read_stored(path)) == list(good)
