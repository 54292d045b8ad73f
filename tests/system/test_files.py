"""Every durable file is flushed, then named, then its folder; what it replaces goes last.

And whichever of these calls fails, the old or the new stands there, whole.
"""

import errno
import os
import shutil
from pathlib import Path

import pytest

from faults.power import watched
from qwen2vl_rs.config import Config
from qwen2vl_rs.config_file import write_config
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.errors import RunError
from qwen2vl_rs.models.manifest import FileRecord, Manifest, write_manifest
from qwen2vl_rs.predict.job import Job
from qwen2vl_rs.predict.predictor import Reply, to_prediction
from qwen2vl_rs.scoring.predictions import write_predictions
from qwen2vl_rs.system.disk import flush, make_folder
from qwen2vl_rs.system.files import (
    atomic_write,
    put_in_place,
    remove_folder,
    set_aside,
    staged_folder,
    verify_checksums,
    write_checksums,
    write_json,
)
from qwen2vl_rs.types import Sample

SAMPLES = [Sample(str(n), __file__, "Is there a road?", "yes", "presence") for n in range(3)]
ANSWERS = [to_prediction(sample, Reply("yes")) for sample in SAMPLES]


def text(place, content="new"):
    with atomic_write(place / "deep/er/file") as file:
        file.write(content)


def many(place, content="new"):
    with atomic_write(place / "file", "wb") as file:
        file.write(content.encode() * 99_999)


def placed(place, content="new"):
    (place / "arrived").write_text(content)
    put_in_place(place / "arrived", place / "file")


def folder(place, content="new"):
    with staged_folder(place / "runs/final") as staging:
        (staging / "sub").mkdir()
        (staging / "sub/a").write_text(content)


def sealed(place):
    for name in ("a", "sub/b", "page.md"):
        (place / "folder" / name).write_text("x")
    write_checksums(place / "folder")


def fetched(place):
    for name in ("model/weights", "model/sub/sub/vocab"):
        (place / name).write_text("x")
    files = {n: FileRecord(size=1, sha256="") for n in ("weights", "sub/sub/vocab")}
    about = {"hub": "hf", "repo_id": "a/b", "requested": None, "revision": "1", "commit": None}
    write_manifest(Manifest(**about, files=files, flushed=True), place / "model")


def asked(place):
    job = Job(SAMPLES, place / "eval/test", ["model"])
    with job.appending(3) as log:
        log.add(ANSWERS)
    job.finish()


WRITERS = {
    "a text": (text, "deep/er/file"),
    "bytes": (many, "file"),
    "JSON": (lambda place: write_json(place / "runs/a.json", {"a": 1}), "a.json"),
    "settings": (lambda place: write_config(place / "runs/config.toml", Config()), "config.toml"),
    "questions": (lambda place: write_conversations(place / "runs/t.json", SAMPLES), "t.json"),
    "predictions": (lambda place: write_predictions(place / "runs/p.jsonl", ANSWERS), "p.jsonl"),
    "a file that arrived": (placed, "file"),
    "a staged folder": (folder, "runs/final"),
    "a sealed folder": (sealed, "checksums.json"),
    "a fetched model": (fetched, "model/.*.json"),
    "an evaluation": (asked, "eval/test/inputs.json"),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_what_has_its_name_stands_on_disk(tmp_path, kind):
    write, name = WRITERS[kind]
    for known in ("runs", "deep/er", "folder/sub", "model/sub/sub"):
        (tmp_path / known).mkdir(parents=True)
    with watched(tmp_path) as disk:
        write(tmp_path)
        assert {n for n in disk.when(name) if ".partial" not in n} == set()
        assert {n for n in disk.lost() if not n.endswith("timing.json")} == set()


def test_new_folders_and_names_stand_on_disk(tmp_path):
    with watched(tmp_path) as disk:
        make_folder(tmp_path / "a/b/c")
        text(tmp_path / "a/b/c")
        assert disk.lost() == set()  # all folders above were flushed when they were made
        set_aside(tmp_path / "a/b")
        assert disk.lost() == set()


def test_what_is_replaced_is_deleted_last_of_all(tmp_path):
    folder(tmp_path, "old")
    with watched(tmp_path) as disk:
        folder(tmp_path)
        assert disk.removed(".final.old/sub/a") == set()
    assert all(".final.old" in path.parts for path, _ in disk.removals)  # under no other name
    assert (tmp_path / "runs/final/sub/a").read_text() == "new"


def test_partial_answers_are_deleted_when_all_are_on_disk(tmp_path):
    with watched(tmp_path) as disk:
        asked(tmp_path)
    (lost,) = [lost for path, lost in disk.removals if ".partial-0.jsonl" in path.name and
               not path.name.startswith(".")]  # fmt: skip
    assert {n for n in lost if not n.endswith("timing.json")} == set()


def calls(monkeypatch, fail):
    """Let a certain call to the operating system fail: ``fail`` counts them from 0."""
    count = iter(range(999))

    def failing(name):
        real = getattr(os, name)

        def call(*words, **more):
            if next(count) == fail:
                raise OSError(
                    errno.EIO, os.strerror(errno.EIO), *words[:1] if name != "fsync" else ()
                )
            return real(*words, **more)

        monkeypatch.setattr(os, name, call)

    for name in ("fsync", "rename", "replace", "mkdir", "rmdir", "unlink"):
        failing(name)
    return count


@pytest.mark.parametrize("write", [text, many, placed, folder])
def test_whichever_call_fails_the_old_or_the_new_is_there(tmp_path, monkeypatch, write):
    def found(place):
        if write is folder:
            final = place / "runs/final"
            if not final.exists():  # put back by whoever writes it next, and not deleted
                final = place / "runs/.final.old"
            assert verify_checksums(final) is None
            return (final / "sub/a").read_text()
        name = "deep/er/file" if write is text else "file"
        return (place / name).read_text()[:3]

    place, fail, seen = tmp_path / "place", 0, set()
    while True:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        write(place, "old")
        with monkeypatch.context() as patch:
            count = calls(patch, fail)
            try:
                write(place, "new")
                failed = False
            except (RunError, OSError):
                failed = True
        through = next(count) <= fail  # there were not so many calls
        now = found(place)
        seen.add(now)
        assert now == "new" or failed, fail
        write(place, "end")  # and nothing that is left stands in the way of the next
        assert found(place) == "end"
        if through:
            break
        fail += 1
    assert seen == {"old", "new"}
    assert fail >= 3


def test_whichever_call_fails_no_answer_is_lost(tmp_path, monkeypatch):
    fail, failed = 0, True
    while failed:
        folder = tmp_path / str(fail)
        job = Job(SAMPLES, folder, ["model"])
        with job.appending(3) as log:
            log.add(ANSWERS)
        with monkeypatch.context() as patch:
            count = calls(patch, fail)
            try:
                job.finish()
                failed = next(count) > fail  # else there were not so many calls
            except (RunError, OSError):
                failed = True
        kept = job.ready() or job.partial().values()
        assert [p.prediction for p in kept] == ["yes"] * 3, fail
        fail += 1
    assert fail > 5


def test_a_folder_that_is_not_wanted_is_nameless_before_it_lacks_a_file(tmp_path):
    folder(tmp_path)
    with watched(tmp_path) as disk:
        remove_folder(tmp_path / "runs/final")
    assert all(".final.tmp" in path.parts for path, _ in disk.removals)
    assert not Path(tmp_path / "runs/.final.tmp").exists()


def test_flushed_files_have_their_names_on_disk(tmp_path):
    """Not their content alone: the folder that says where they are, too."""
    (tmp_path / "sub").mkdir()
    with watched(tmp_path) as disk:
        (tmp_path / "sub/new").write_text("new")
        assert disk.lost()
        flush([tmp_path / "sub/new"])
        assert disk.lost() == set()
