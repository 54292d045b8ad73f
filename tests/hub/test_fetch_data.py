"""Data sets from a Zenodo on the loopback: resumed, verified, extracted, and then trained on."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from factory import write_rsvqa
from hubserver import HubServer
from qwen2vl_rs.cli import main
from qwen2vl_rs.datasets.folders import RSVQA
from qwen2vl_rs.datasets.reading import read_samples
from qwen2vl_rs.errors import ConfigError, DataError, HubError
from qwen2vl_rs.hub import zenodo
from qwen2vl_rs.hub.fetch_data import FetchedData, fetch_data

RECORD = "6344334"
ARCHIVE = "Images_LR.zip"
SPLITS = ("train", "val", "test")


def zipped(folder: Path, top: str = "Images_LR/") -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        if top:
            archive.writestr(top, b"")
        for path in sorted(folder.iterdir()):
            archive.write(path, f"{top}{path.name}")
    return made.getvalue()


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A small RSVQA-LR as published: nine lists, lists of the whole data set, and a zip."""
    folder = tmp_path_factory.mktemp("published")
    for number, split in enumerate(SPLITS):
        write_rsvqa(folder, 2, prefix=f"LR_split_{split}_", first=2 * number)
    files = {path.name: path.read_bytes() for path in folder.glob("*.json")}
    files |= {f"all_{what}.json": b'{"x": []}' for what in ("questions", "answers", "images")}
    files[ARCHIVE] = zipped(folder / "rsvqa_images")
    return files


@pytest.fixture
def server(
    published: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[HubServer]:
    monkeypatch.chdir(tmp_path)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(zenodo.time, "sleep", lambda seconds: None)
    with HubServer() as hub:
        hub.records[RECORD] = dict(published)
        monkeypatch.setenv("ZENODO_ENDPOINT", hub.url)
        yield hub


FOLDER = Path("RSVQA_LR")
fetch = functools.partial(fetch_data, "LR")


def names(folder: Path = FOLDER) -> set[str]:
    """Files beside the image folder, hidden ones too."""
    return {path.name for path in folder.iterdir()}


def asked(server: HubServer) -> list[str]:
    return [one.name for one in server.asked]


def test_fetches_all_splits_and_extracts_the_images(server, published, capsys):
    done = fetch()
    lists = {name for name in published if name.startswith("LR_split")}
    assert names() == {*lists, "Images_LR", ".qwen2vl-rs-data.json"}
    assert {(FOLDER / name).read_bytes() for name in lists} == {published[n] for n in lists}
    assert sorted(path.name for path in (FOLDER / "Images_LR").iterdir()) == [
        f"{n}.tif" for n in range(6)
    ]
    assert done == FetchedData(
        FOLDER,
        "LR",
        {split: FOLDER / f"LR_split_{split}_questions.json" for split in SPLITS},
        FOLDER / "Images_LR",
        sum(len(published[name]) for name in (*lists, ARCHIVE)),
        already_complete=False,
    )
    for split in SPLITS:
        data = RSVQA(FOLDER, split=split)
        assert {Path(s.image).is_file() for s in data} == {True}
    said = capsys.readouterr()
    assert not said.out
    assert "RSVQA-LR needs" in said.err
    assert "licence of RSVQA-LR: CC BY 4.0" in said.err


def test_a_complete_folder_needs_no_network_and_is_left_alone(server, capsys):
    fetch()
    server.close()
    before = {path: path.stat().st_mtime_ns for path in FOLDER.rglob("*")}
    (FOLDER / "Images_LR/3.tif.aux.xml").write_text("<PAMDataset/>")  # as QGIS writes
    assert fetch().already_complete
    assert fetch(splits=["train"]).already_complete
    assert fetch(only="images").already_complete
    assert before.items() <= {p: p.stat().st_mtime_ns for p in FOLDER.rglob("*")}.items() | {
        (FOLDER / "Images_LR", before[FOLDER / "Images_LR"])
    }
    with pytest.raises(HubError, match="cannot reach Zenodo"):
        fetch(splits=["all"])


def test_one_split_and_then_more(server, published):
    done = fetch(splits=["val"])
    assert list(done.questions) == ["val"]
    assert len(asked(server)) == 4  # three lists and the archive
    server.forget()
    assert list(fetch(splits=["train", "val"]).questions) == ["train", "val"]
    assert sorted(asked(server)) == [
        f"LR_split_train_{what}.json" for what in ("answers", "images", "questions")
    ]


def test_only_questions_and_only_images(server):
    done = fetch(only="questions")
    assert done.images is None
    assert not (FOLDER / "Images_LR").exists()
    server.forget()
    assert fetch(only="images").images == FOLDER / "Images_LR"
    assert asked(server) == [ARCHIVE]
    server.forget()
    assert fetch().images
    assert not asked(server)


def test_a_broken_connection_is_resumed(server, published):
    size = len(published[ARCHIVE])
    server.faults.drop[ARCHIVE] = (size // 2, 1)
    fetch()
    (first, second) = server.ranges(ARCHIVE)
    assert first is None
    assert second == f"bytes={size // 2}-"


def test_a_server_without_ranges_sends_the_file_again(server, published, capsys):
    server.faults.no_range = True
    server.faults.drop[ARCHIVE] = (len(published[ARCHIVE]) // 2, 1)
    assert fetch().images
    assert server.sent(ARCHIVE) > len(published[ARCHIVE])
    assert "cannot be resumed: downloading it again" in capsys.readouterr().err


def test_a_server_that_always_breaks_off_is_given_up_and_resumed_later(server, published):
    server.faults.no_range = True
    server.faults.drop[ARCHIVE] = (len(published[ARCHIVE]) // 2, 1000)
    with pytest.raises(HubError, match="connection to Zenodo broke") as caught:
        fetch()
    assert f"zenodo.org/records/{RECORD}" in caught.value.hint
    assert not (FOLDER / "Images_LR").exists()
    server.forget()
    assert fetch().images
    assert asked(server) == [ARCHIVE]
    assert server.ranges(ARCHIVE) == [f"bytes={len(published[ARCHIVE]) // 2}-"]


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again_after_the_pause_it_wants(server, monkeypatch, status, capsys):
    slept: list[float] = []
    monkeypatch.setattr(zenodo.time, "sleep", slept.append)
    server.faults.busy[""] = (2, status, {"Retry-After": "7"})
    server.faults.busy[ARCHIVE] = (1, status, {})
    assert fetch().images
    assert slept == [7.0, 7.0, 1.0]
    assert f"Zenodo is busy ({status}): waiting 0:07" in capsys.readouterr().err


def test_a_reset_time_is_a_pause_too(server, monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr(zenodo.time, "sleep", slept.append)
    server.faults.busy[""] = (1, 429, {"X-RateLimit-Reset": str(int(time.time()) + 31)})
    fetch(only="questions")
    assert 20 < slept[0] <= 31


def test_a_long_pause_is_said_instead_of_waited_for(server):
    server.faults.busy[""] = (1, 503, {"Retry-After": "3600"})
    with pytest.raises(HubError, match="asks to wait 1:00:00"):
        fetch()


@pytest.mark.parametrize(
    ("status", "problem"), [(404, "has no record 6344334"), (403, "refuses access"), (500, "500")]
)
def test_errors_of_the_server_are_explained(server, status, problem):
    server.faults.busy[""] = (1000, status, {})
    with pytest.raises(HubError, match=problem) as caught:
        fetch()
    assert caught.value.hint
    assert len(server.requests) == (5 if status == 500 else 1)


def test_what_arrives_damaged_once_is_kept_aside_and_fetched_again(server, capsys):
    server.faults.corrupt = {ARCHIVE: 1, "LR_split_val_answers.json": 1}
    assert fetch().images
    said = capsys.readouterr().err
    assert "LR_split_val_answers.json is damaged: kept as LR_split_val_answers.json.damaged" in said
    assert len(server.ranges(ARCHIVE)) == 2
    assert RSVQA(FOLDER, split="val")


def test_what_always_arrives_damaged_is_named_and_kept_aside(server, published):
    name = "LR_split_val_answers.json"
    server.faults.corrupt[name] = 1000
    with pytest.raises(HubError, match=f"{name} .*damaged twice") as caught:
        fetch()
    aside = FOLDER / ".incoming" / f"{name}.damaged"
    assert str(aside) in caught.value.message
    assert aside.stat().st_size == len(published[name])
    assert not (FOLDER / name).exists()
    server.forget()
    assert fetch().images


def test_a_file_that_changed_between_two_calls_is_fetched_whole(server, published):
    size = len(published[ARCHIVE])
    server.faults.no_range = True
    server.faults.drop[ARCHIVE] = (size // 2, 1000)
    with pytest.raises(HubError):
        fetch()
    server.forget()
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("Images_LR/6.tif", b"new")
        archive.writestr("Images_LR/7.tif", bytes(size))
    server.records[RECORD][ARCHIVE] = other.getvalue()
    fetch()
    assert (FOLDER / "Images_LR/6.tif").read_bytes() == b"new"
    assert len(server.ranges(ARCHIVE)) == 2


def test_a_size_that_is_not_the_listed_one_is_an_error(server, published):
    server.faults.listing[ARCHIVE] = published[ARCHIVE] + b"x"
    with pytest.raises(HubError, match="another size on Zenodo than it lists"):
        fetch()
    server.faults.listing[ARCHIVE] = published[ARCHIVE][:-1]
    with pytest.raises(HubError, match="another size on Zenodo than it lists"):
        fetch()


@pytest.mark.parametrize(
    "sent", [b"<html>log in</html>", b"[]", b'{"files": [{}]}', b"{}", b"\xff"]
)
def test_a_listing_that_is_none_is_explained(server, sent):
    def answer(handler):
        handler._send(sent, 200, "application/json")

    server.faults.instead[""] = answer
    with pytest.raises(HubError, match="not a file list"):
        fetch()


@pytest.mark.parametrize("name", ["../evil.json", "/etc/evil", "a/../../b", "a\nb"])
def test_a_listing_may_not_name_files_outside(server, name):
    server.faults.listing[name] = b"x"
    with pytest.raises(HubError, match="outside its folder"):
        fetch()


def test_a_record_without_questions_is_named(server):
    server.records[RECORD] = {"README.md": b"x"}
    with pytest.raises(HubError, match="no questions of the split train") as caught:
        fetch()
    assert "README.md" in caught.value.hint
    with pytest.raises(HubError, match="no images"):
        fetch(only="images")


def test_too_little_space_is_said_before_anything_is_downloaded(server, monkeypatch):
    free = shutil.disk_usage(".")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(HubError, match=r"RSVQA-LR needs .* but 1.0 kB is free"):
        fetch()
    assert not asked(server)


def test_a_full_disk_is_explained_and_resumed(server, published):
    code = "import sys; from qwen2vl_rs.cli import main; sys.exit(main(['fetch', 'LR']))"
    size = len(published[ARCHIVE]) // 2
    limit = (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        preexec_fn=lambda: (signal.signal(signal.SIGXFSZ, signal.SIG_IGN), *[f() for f in limit]),
    )  # fmt: skip
    assert done.returncode == 1
    assert "cannot write to" in done.stderr
    assert "hint:" in done.stderr
    server.forget()
    fetch()
    assert asked(server) == [ARCHIVE]
    assert server.ranges(ARCHIVE) == [f"bytes={size}-"]


def test_files_downloaded_by_hand_are_verified_and_kept(server, published, capsys):
    FOLDER.mkdir()
    for name in (ARCHIVE, "LR_split_train_questions.json"):
        (FOLDER / name).write_bytes(published[name])
    (FOLDER / "LR_split_train_answers.json").write_bytes(b"{}")
    fetch()
    assert ARCHIVE not in asked(server)
    assert "LR_split_train_questions.json" not in asked(server)
    assert (FOLDER / ARCHIVE).is_file()  # the user's own
    assert (FOLDER / "LR_split_train_answers.json.damaged").read_bytes() == b"{}"
    assert "is not the file on Zenodo: kept as" in capsys.readouterr().err
    server.close()
    assert fetch().already_complete


def test_images_extracted_by_hand_are_compared_with_the_lists(server, published, capsys):
    with zipfile.ZipFile(io.BytesIO(published[ARCHIVE])) as archive:
        archive.extractall(FOLDER)
    fetch()
    assert ARCHIVE not in asked(server)
    assert "their content is not verified" in capsys.readouterr().err
    assert not (FOLDER / ".qwen2vl-rs-data.json").read_text().count('"verified": true')


def test_an_incomplete_image_folder_is_kept_aside(server, published):
    with zipfile.ZipFile(io.BytesIO(published[ARCHIVE])) as archive:
        archive.extractall(FOLDER)
    (FOLDER / "Images_LR/2.tif").unlink()
    (FOLDER / "Images_LR/notes.txt").write_text("mine")
    fetch()
    assert (FOLDER / "Images_LR/2.tif").is_file()
    assert (FOLDER / "Images_LR.damaged/notes.txt").read_text() == "mine"


def test_an_image_that_was_removed_later_comes_back(server):
    fetch()
    (FOLDER / "Images_LR/2.tif").unlink()
    assert not fetch().already_complete
    assert (FOLDER / "Images_LR/2.tif").is_file()


def test_killed_midway_and_started_again(server, published):
    server.records[RECORD][ARCHIVE] = content = published[ARCHIVE]
    before = len(content) // 2
    server.faults.stall[ARCHIVE] = before
    process = subprocess.Popen(
        [sys.executable, "-m", "qwen2vl_rs", "fetch", "LR"], stderr=subprocess.DEVNULL
    )
    partial = FOLDER / ".archives/.incoming" / f"{ARCHIVE}.incomplete"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if partial.exists() and partial.stat().st_size == before:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    server.forget()
    fetch()
    assert asked(server) == [ARCHIVE]  # the lists were complete
    assert server.ranges(ARCHIVE) == [f"bytes={before}-"]
    assert RSVQA(FOLDER, split="train")
    assert not [
        name for name in names() if name.startswith(".") and name != ".qwen2vl-rs-data.json"
    ]


def test_killed_while_extracting_and_started_again(server, published, monkeypatch):
    from qwen2vl_rs.hub import archives

    def killed(self, n=1, note=""):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(archives.Progress, "advance", killed)
        with pytest.raises(KeyboardInterrupt):
            archives.extract(_saved(published), Path())
    assert not Path("Images_LR").exists()
    Path(".Images_LR.tmp").mkdir()  # of a process that could not clean up
    Path(".Images_LR.tmp/half.tif").write_bytes(b"x")
    assert archives.extract(_saved(published), Path()).files == 6
    assert sorted(os.listdir("Images_LR")) == [f"{n}.tif" for n in range(6)]


def _saved(published: dict[str, bytes]) -> Path:
    Path(ARCHIVE).write_bytes(published[ARCHIVE])
    return Path(ARCHIVE)


def test_two_at_once_do_not_mix(server):
    import fcntl

    FOLDER.mkdir()
    handle = os.open(FOLDER, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(HubError, match="another process is downloading"):
        fetch()
    os.close(handle)


@pytest.mark.parametrize(
    "url", ["zenodo", "ftp://x/y", "http://", "http://[::1", "http://x:99999", "http://x?a=b", "\n"]
)
def test_an_endpoint_that_is_none_is_refused(server, url):
    with pytest.raises(ConfigError, match="not a server's URL"):
        fetch(endpoint=url)


def test_a_password_in_the_endpoint_is_refused_without_repeating_it(server):
    with pytest.raises(ConfigError, match="contains a password") as caught:
        fetch(endpoint="https://me:secret@host")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("name", "problem"), [("FloodNet", "not on Zenodo"), ("x", "not a known")])
def test_other_data_sets_are_refused(server, name, problem):
    with pytest.raises(ConfigError, match=problem) as caught:
        fetch_data(name)
    assert "LR, HR, xBEN" in caught.value.hint


def test_splits_that_do_not_exist_are_refused_before_the_download(server):
    with pytest.raises(ConfigError, match="no split 'training'") as caught:
        fetch(splits=["training"])
    assert "train, val, test, all" in caught.value.hint
    assert not server.asked
    assert not FOLDER.exists()


def test_hr_is_a_tar_with_two_files_an_image_and_four_splits(server, tmp_path, published):
    folder = write_rsvqa(tmp_path / "hr", 2, prefix="USGS_split_test_phili_")
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for path in sorted((folder / "rsvqa_images").iterdir()):
            archive.add(path, f"./Data/{path.name}")
            archive.add(path, f"./Data/{path.stem}.png")
    files = {path.name: path.read_bytes() for path in folder.glob("*.json")}
    server.records["6344367"] = {**files, "Images.tar": made.getvalue()}
    done = fetch_data("rsvqa-hr", splits=["test_phili"])
    assert done.folder == Path("RSVQA_HR")
    assert len(os.listdir("RSVQA_HR/Data")) == 4
    assert len(RSVQA("RSVQA_HR"))


def test_the_next_command_works_on_the_folder(server, capsys, monkeypatch):
    assert main(["fetch", "LR", "-o", "my data", "--split", "val"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "next: qwen2vl-rs data2csv --folder 'my data' --split val" in said.err
    assert main(["data2csv", "--folder", "my data", "--split", "val"]) == 0
    assert main(["fetch", "LR", "-o", "other", "--only", "questions"]) == 0
    assert "next: qwen2vl-rs fetch LR -o other --only images" in capsys.readouterr().err
    assert main(["fetch", "LR", "-o", "other", "--only", "images"]) == 0
    assert "next: qwen2vl-rs fetch LR -o other --only questions" in capsys.readouterr().err
    assert main(["fetch", "LR", "-o", "other"]) == 0
    assert (
        "next: qwen2vl-rs train --train other/LR_split_train_questions.json "
        "--test other/LR_split_test_questions.json"
    ) in capsys.readouterr().err
    for split in ("train", "test"):  # what train reads
        data = read_samples(Path(f"other/LR_split_{split}_questions.json"))
        assert len(data) == 16
        assert data.distinct("dataset") == ["LR"]
        assert all(Path(image).is_file() for image in data.images)


def test_works_without_torch_and_the_hubs_clients(server):
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in {'torch', 'transformers', 'huggingface_hub', 'peft',"
        " 'modelscope_hub', 'safetensors', 'accelerate'}:\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from qwen2vl_rs.cli import main\n"
        "sys.exit(main(['fetch', 'LR']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_manifest_of_another_record_or_a_damaged_one_is_not_believed(server):
    fetch()
    manifest = FOLDER / ".qwen2vl-rs-data.json"
    known = json.loads(manifest.read_text())
    for wrong in ("{", "[]", json.dumps({**known, "record": "1"}),
                  json.dumps({**known, "listed": {"../x": {"size": 1, "md5": None}}})):  # fmt: skip
        manifest.write_text(wrong)
        server.forget()
        assert not fetch().already_complete
        assert ARCHIVE not in asked(server)  # the images are all there


def test_the_user_agent_does_not_describe_the_machine(server):
    fetch(only="questions")
    assert server.agents == {"qwen2vl-rs"}
    assert server.encodings == {"identity"}


def test_a_checksum_is_that_of_the_content(server, published):
    """The server of these tests lists what Zenodo lists."""
    listing = zenodo.Zenodo(FOLDER, server.url, RECORD).listing()
    by_name = {file.name: file for file in listing.files}
    content = published[ARCHIVE]
    assert by_name[ARCHIVE].md5 == hashlib.md5(content, usedforsecurity=False).hexdigest()
    assert by_name[ARCHIVE].size == len(content)


def test_a_broken_archive_is_named(server):
    server.records[RECORD][ARCHIVE] = b"PK not a zip"
    with pytest.raises(DataError, match=f"{ARCHIVE} cannot be extracted"):
        fetch()


def test_what_is_sent_compressed_is_refused(server):
    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.send_header("Content-Length", "4")
        handler.end_headers()
        handler.wfile.write(b"\x1f\x8b\x08\x00")

    server.faults.instead[""] = answer
    with pytest.raises(HubError, match="compressed response"):
        fetch()


def test_more_than_the_listed_size_without_an_announced_length_is_refused(server, published):
    def answer(handler):
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        with contextlib.suppress(OSError):
            handler.wfile.write(published[ARCHIVE] + b"x" * 2_000_000)

    server.faults.instead[ARCHIVE] = answer
    with pytest.raises(HubError, match="sends more than expected"):
        fetch()


@pytest.mark.parametrize("place", ["/api/records/6344334", "gopher://x/", "http://127.0.0.1:1/"])
def test_redirects_that_lead_nowhere_are_explained(server, place):
    def answer(handler):
        handler._send(b"", 302, "text/plain", {"Location": place})

    server.faults.instead[""] = answer
    with pytest.raises(HubError, match="cannot reach Zenodo"):
        fetch()


def test_a_redirect_to_another_server_is_followed(server, published):
    """As to the storage of large files."""
    with HubServer() as storage:
        storage.records[RECORD] = dict(published)

        def answer(handler):
            handler._send(b"", 307, "text/plain", {"Location": storage.url + handler.path})

        server.faults.instead[ARCHIVE] = answer
        assert fetch().images
        assert storage.ranges(ARCHIVE) == [None]


@pytest.mark.parametrize("seconds", [0.3])
def test_a_server_that_never_ends_its_answer_is_left(server, monkeypatch, seconds):
    from qwen2vl_rs.hub import limits

    monkeypatch.setattr(limits, "_WINDOW", seconds)

    def answer(handler):
        with contextlib.suppress(OSError):
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
            while not server.closing.wait(0.05):
                handler.wfile.write(b"X-Slow: 1\r\n")

    server.faults.instead[""] = answer
    with pytest.raises(HubError, match="cannot reach Zenodo"):
        fetch()


def test_a_body_that_trickles_is_left(server, monkeypatch, published):
    from qwen2vl_rs.hub import limits

    monkeypatch.setattr(limits, "_WINDOW", 0.3)

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(published[ARCHIVE])))
        handler.end_headers()
        with contextlib.suppress(OSError):
            while not server.closing.wait(0.05):
                handler.wfile.write(b"x")

    server.faults.instead[ARCHIVE] = answer
    with pytest.raises(HubError, match="almost stopped sending"):
        fetch()


@pytest.mark.parametrize("proxy", ["gopher://x", "http://[::1", "socks5://127.0.0.1:1"])
def test_a_proxy_that_cannot_be_used_is_named_without_its_password(server, monkeypatch, proxy):
    monkeypatch.setenv("ALL_PROXY", proxy)
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises((ConfigError, HubError), match=r"proxy|cannot reach"):
        fetch()


def test_files_without_a_checksum_are_fetched_whole_and_said(server, monkeypatch, capsys):
    monkeypatch.setattr(zenodo.Zenodo, "_file", staticmethod(
        lambda entry: zenodo.RemoteFile(entry["key"], entry["size"])))  # fmt: skip
    assert fetch(splits=["val"]).images
    assert "has no checksum" in capsys.readouterr().err


@pytest.mark.parametrize("there", ["file", "link", "hidden"])
def test_odd_folders(server, there, tmp_path):
    if there == "file":
        FOLDER.write_text("x")
        with pytest.raises(HubError, match="RSVQA_LR"):
            fetch()
    if there == "link":
        (tmp_path / "disk").mkdir()
        FOLDER.symlink_to(tmp_path / "disk")
        assert fetch().images
        assert (tmp_path / "disk/Images_LR").is_dir()
    if there == "hidden":
        server.records[RECORD][ARCHIVE] = zipped(_tiles(tmp_path), ".archives/")
        with pytest.raises(DataError, match="hidden"):
            fetch()


def _tiles(tmp_path: Path) -> Path:
    (tmp_path / "tiles").mkdir()
    (tmp_path / "tiles/0.tif").write_bytes(b"x")
    return tmp_path / "tiles"


def test_a_file_where_the_image_folder_belongs_is_kept_aside(server):
    FOLDER.mkdir()
    (FOLDER / "Images_LR").write_text("mine")
    fetch()
    assert (FOLDER / "Images_LR.damaged").read_text() == "mine"
