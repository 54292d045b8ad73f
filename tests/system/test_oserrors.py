"""Calls to the operating system that fail: the right file, the cause, and a hint that fits it."""

import contextlib
import errno
import json
import logging
import os
import resource
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from bases import SETTINGS
from factory import make_samples, write_run
from qwen2vl_rs.cli import main
from qwen2vl_rs.cli.common import interruptible, same_command
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.errors import Qwen2VLRSError
from qwen2vl_rs.run import Run
from qwen2vl_rs.serve.logs import Bounded
from qwen2vl_rs.system.disk import room_hint
from qwen2vl_rs.system.files import append_to, atomic_write, remove_folder, sha256, staged_folder
from qwen2vl_rs.system.named_files import ReadError, WriteError, copy_file, open_named, read_bytes
from qwen2vl_rs.system.oserrors import (
    Unwritable,
    explain_os_error,
    explain_read_errors,
    explain_write_errors,
    is_file,
    process_limit,
    root_cause,
    unreadable,
    unwritable,
)

FAILS_TO_READ = Path("/proc/self/mem")  # a regular file; nothing is mapped at its beginning: EIO
pytestmark = pytest.mark.skipif(not FAILS_TO_READ.exists(), reason="Linux")
CHECK_DISK = "check the disk or network share"
STRACE = pytest.mark.skipif(not shutil.which("strace"), reason="strace makes the calls fail")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextlib.contextmanager
def limited(what, most):
    """A limit of this process, as ``ulimit`` sets it."""
    soft, hard = resource.getrlimit(what)
    resource.setrlimit(what, (most, hard))
    sys.dont_write_bytecode = True  # it would be cut, and others would read it
    try:
        yield
    finally:
        resource.setrlimit(what, (soft, hard))
        sys.dont_write_bytecode = False


def without_open_files():
    """As many files are open as may be."""
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    return limited(resource.RLIMIT_NOFILE, free)


@contextlib.contextmanager
def small_disk(folder, size):
    """A file system of so much room; where none can be mounted, the test is skipped."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if not shutil.which("mount") or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


# what people are told, by cause


@pytest.mark.parametrize(
    ("number", "reading", "writing"),
    [
        (errno.EIO, CHECK_DISK, CHECK_DISK),
        (errno.ESTALE, CHECK_DISK, CHECK_DISK),
        (errno.EACCES, "read permission", "may write to"),
        (errno.EROFS, "read permission", "may write to"),
        (errno.EMFILE, "ulimit -n", "ulimit -n"),
        (errno.ENOMEM, "memory", "memory"),
        (errno.ENOSPC, CHECK_DISK, "free some disk space"),
        (errno.EDQUOT, CHECK_DISK, "free some disk space"),
        (errno.EFBIG, CHECK_DISK, "ulimit -f"),
        (errno.EEXIST, "its name", "in the way"),
        (errno.EXDEV, CHECK_DISK, "one file system"),
        (errno.ENOENT, "its name", "was removed"),
    ],
)
def test_the_hint_fits_the_cause(number, reading, writing):
    error = OSError(number, os.strerror(number), "x")
    assert reading in unreadable("x", error).hint
    assert writing in unwritable(Path("x"), error).hint
    for one in (error, OSError(number, os.strerror(number))):
        found = explain_os_error(one)
        assert os.strerror(number) in found.message
        assert found.hint
        assert "permissions" not in found.hint or number in (errno.EACCES, errno.EROFS)


def test_a_read_that_fails_names_its_file_and_is_no_write(here):
    for read in (read_bytes, sha256, lambda path: copy_file(path, here / "copy")):
        with pytest.raises(ReadError) as caught:
            read(FAILS_TO_READ)
        assert (caught.value.errno, caught.value.filename) == (errno.EIO, str(FAILS_TO_READ))
    for write in (atomic_write, append_to):
        with pytest.raises(ReadError), write(here / "out"):
            read_bytes(FAILS_TO_READ)
        with pytest.raises(OSError, match="from GDAL"), write(here / "out"):
            raise OSError("from GDAL")
    with pytest.raises(ReadError), staged_folder(here / "folder") as staging:
        copy_file(FAILS_TO_READ, staging / "x")
    assert not list(here.glob(".*"))


def test_a_file_that_cannot_be_opened_for_now_is_named(here):
    (here / "x").touch()
    with without_open_files():
        for mode, kind in (("r", ReadError), ("a", WriteError), ("r+b", WriteError)):
            with pytest.raises(kind) as caught:
                open_named(here / "x", mode)
            assert explain_os_error(caught.value).message.startswith("cannot ")
            assert f"{here / 'x'}: Too many open files" in explain_os_error(caught.value).message
    with pytest.raises(FileNotFoundError):
        open_named(here / "none")


def test_a_write_that_fails_names_its_file(here):
    with (
        pytest.raises(WriteError) as caught,
        limited(resource.RLIMIT_FSIZE, 1000),
        open_named(here / "out", "wb") as file,
    ):
        file.write(bytes(9000))
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(here / "out"))
    (here / "source").write_bytes(bytes(9000))
    target, told = here / "copy", r"cannot write .*copy: File too large"
    with pytest.raises(WriteError), limited(resource.RLIMIT_FSIZE, 1000):
        copy_file(here / "source", target)
    for opened in (atomic_write(target, "wb"), append_to(target, "ab")):
        with pytest.raises(Unwritable, match=told), limited(resource.RLIMIT_FSIZE, 1000):
            exhaust(opened)


def exhaust(opened):
    with opened as file:
        file.write(bytes(9000))


# what libraries write and read


def writers():
    """Large files fail while they are written, small ones of torch when they are closed."""
    big, small = torch.zeros(50_000), torch.zeros(2)
    return {
        "torch, large": lambda path: torch.save(big, path),
        "torch, small": lambda path: torch.save(small, path),
        "safetensors": lambda path: save_file({"x": big}, path),
    }


@pytest.mark.parametrize("name", writers())
def test_a_full_disk_is_recognised_in_the_words_of_libraries(here, name):
    with small_disk(here / "disk", "16k") as disk:
        (disk / "rest").write_bytes(bytes(12_000 if "large" in name else 16_384))
        with pytest.raises(Unwritable) as caught, explain_write_errors(disk / "x"):
            writers()[name](disk / "x")
    assert caught.value.message == f"cannot write {disk / 'x'}: No space left on device"
    assert "free some disk space" in caught.value.hint


@pytest.mark.parametrize("name", writers())
def test_a_limit_of_file_size_is_recognised_in_the_words_of_libraries(here, name):
    with (
        limited(resource.RLIMIT_FSIZE, 100),
        pytest.raises(Unwritable, match=r"cannot write .*x: File too large"),
        explain_write_errors(here / "x"),
    ):
        writers()[name](here / "x")


def test_other_errors_of_libraries_stay_what_they_are(here):
    with pytest.raises(RuntimeError, match="shapes"), explain_write_errors(here / "x"):
        raise RuntimeError("shapes do not fit")
    (here / "x.safetensors").write_bytes(b"no weights")
    with (
        pytest.raises(Exception, match="header") as caught,
        explain_read_errors(here / "x.safetensors"),
    ):
        safe_open(here / "x.safetensors", framework="pt")
    assert not isinstance(caught.value, Qwen2VLRSError)


def test_weights_that_cannot_be_opened_are_not_called_absent(here):
    save_file({"x": torch.zeros(2)}, here / "x.safetensors")
    with (
        without_open_files(),
        pytest.raises(Qwen2VLRSError, match=r"x\.safetensors: Too many open files") as caught,
        explain_read_errors(here / "x.safetensors"),
    ):
        safe_open(here / "x.safetensors", framework="pt")
    assert "ulimit -n" in caught.value.hint
    with (  # it can be opened again by the time that it is asked why
        pytest.raises(Qwen2VLRSError, match="it exists") as caught,
        explain_read_errors(here / "x.safetensors"),
    ):
        raise FileNotFoundError("No such file or directory: x.safetensors")
    assert CHECK_DISK in caught.value.hint
    (here / "x.safetensors").unlink()
    with pytest.raises(FileNotFoundError), explain_read_errors(here / "x.safetensors"):
        safe_open(here / "x.safetensors", framework="pt")


def test_a_limit_of_the_process_is_no_trouble_with_the_network():
    low = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    error = ConnectionError("cannot connect")
    error.__cause__ = ExceptionGroup("all attempts failed", [low])
    assert process_limit(error) is low
    assert "ulimit -n" in explain_os_error(low).hint
    unreachable = OSError(errno.ENETUNREACH, "Network is unreachable")
    error = ConnectionError("cannot connect")
    error.__cause__ = unreachable
    assert root_cause(error) is unreachable
    assert process_limit(error) is None


# commands


@pytest.mark.parametrize(
    "words",
    [
        ["score", "{}"],
        ["ask", "base", "--batch", "{}"],
        ["train", "{}"],
        ["report", "--after", "{}"],
    ],
)
def test_commands_name_the_file_that_fails(here, capsys, words, small_base):
    (here / "base").symlink_to(small_base)
    (here / "input").symlink_to(FAILS_TO_READ)
    assert main([word.replace("{}", "input") for word in words]) == 1
    told = capsys.readouterr().err
    assert "cannot read input: Input/output error" in told
    assert CHECK_DISK in told


def test_a_manifest_that_cannot_be_read_is_named(here, capsys):
    run = write_run(here / "run")
    (run / "manifest.json").unlink(missing_ok=True)
    (run / "manifest.json").symlink_to(FAILS_TO_READ)
    assert main(["report", str(run)]) == 1
    told = capsys.readouterr().err
    assert f"cannot read {run / 'manifest.json'}: Input/output error" in told
    assert CHECK_DISK in told


@pytest.mark.parametrize("more", [(), ("--merge",)])
def test_an_export_that_does_not_fit_names_its_target(trained, tmp_path, monkeypatch, capsys, more):
    folder, _ = trained
    monkeypatch.chdir(folder)
    run = next(p for p in folder.rglob("manifest.json")).parent
    with limited(resource.RLIMIT_FSIZE, 8000):
        code = main(["export", str(run), *more, "-o", str(tmp_path / "new")])
    assert code == 1
    told = capsys.readouterr().err
    assert f"cannot write {tmp_path / 'new'}" in told
    assert "File too large" in told
    assert "ulimit -f" in told
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_may_only_be_read_is_compared(trained, tmp_path, monkeypatch, capsys):
    folder, _ = trained
    monkeypatch.chdir(folder)
    run = next(p for p in folder.rglob("manifest.json")).parent
    with read_only(run):
        assert main(["compare", "--run", str(run)]) == 0
        assert "questions in total" in capsys.readouterr().err
        (tmp_path / "other.json").write_bytes((run / "data" / "test.json").read_bytes())
        assert main(["compare", "--run", str(run), "--test", str(tmp_path / "other.json")]) == 1
    told = capsys.readouterr().err
    assert "Read-only file system" in told
    assert "copy the run" in told
    assert "--output" not in told


@contextlib.contextmanager
def read_only(folder):
    mount = shutil.which("mount")
    if not mount or subprocess.run([mount, "--bind", folder, folder]).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        subprocess.run([mount, "-o", "remount,ro,bind", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_the_hint_says_how_each_command_resumes(here):
    run = write_run(here / "run")
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(Unwritable) as caught, interruptible(Run(run).interruption_summary):
        raise unwritable(run / "x", full)
    assert caught.value.hint == f"free some disk space, then resume: {Run(run).resume_command()}"
    with pytest.raises(Unwritable) as caught, interruptible(same_command("all answers so far")):
        raise unwritable(run / "x", full)
    assert caught.value.hint == "free some disk space, then run the same command again: it resumes"
    forbidden = OSError(errno.EROFS, "Read-only file system")
    with pytest.raises(Unwritable) as caught, interruptible(same_command("all answers so far")):
        raise unwritable(run / "x", forbidden)
    assert "then" not in caught.value.hint


@pytest.mark.parametrize(
    "words",
    [
        ["data2csv", "--folder", "world"],
        ["csv2json"],
        ["score", "p.jsonl"],
        ["demo", "--folder", "d"],
        ["ask", "{}", "{}", "Is there a road?"],
    ],
)
def test_a_current_folder_that_is_gone_is_told(tmp_path, monkeypatch, capsys, words, small_base):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main([word.replace("{}", str(small_base)) for word in words]) == 1
    assert "the current folder was removed" in capsys.readouterr().err


def test_a_link_that_leads_nowhere_is_called_one(here, capsys):
    (here / "rsvqa-dataset.csv").symlink_to("lost.csv")
    assert main(["csv2json"]) == 1
    told = capsys.readouterr().err
    assert "is a link to lost.csv, which does not exist" in told
    assert "did you mean" not in told


def test_what_cannot_be_looked_at_is_not_absent(here, monkeypatch, capsys):
    (here / "images").mkdir()
    real = os.stat

    def failing(path, *args, **kwargs):
        if str(path).endswith("images"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", failing)
    with pytest.raises(Qwen2VLRSError, match="cannot read images: Input/output error"):
        is_file("images")
    assert not is_file("x" * 5000)
    assert not is_file("nul\0")
    (here / "t.csv").write_text("image_path,question,answer\na.tif,Is it?,yes\n")
    assert main(["csv2json", "-i", "t.csv", "--images", "images"]) == 1
    told = capsys.readouterr().err
    assert "cannot read images: Input/output error" in told
    assert CHECK_DISK in told


def test_what_an_earlier_command_left_and_cannot_be_removed_is_named(here, monkeypatch, capsys):
    (here / ".new.tmp" / "sub").mkdir(parents=True)
    (here / ".new.tmp" / "sub" / "x").touch()
    (here / "old").mkdir()
    (here / "old" / "x").touch()

    def failing(*args, **kwargs):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "unlink", failing)
    with (
        pytest.raises(
            Unwritable, match=r"cannot remove .*\.new\.tmp.*Input/output error"
        ) as caught,
        staged_folder(here / "new"),
    ):
        pass
    assert "rm -r" in caught.value.hint
    capsys.readouterr()
    remove_folder(here / "old")
    assert ".old.tmp is not needed and could not be removed" in capsys.readouterr().err


def test_threads_that_cannot_be_started_are_told(here, monkeypatch, capsys):
    samples = make_samples(here / "images", images=1)
    write_conversations(Path("test.json"), samples)

    def failing(*args, **kwargs):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading, "_start_new_thread", failing)
    words = ["eval", "--endpoint", "http://127.0.0.1:9/v1", "--model", "x", "--test", "test.json"]
    assert main([*words, "--set", "data.dataset=LR", "-o", "out"]) == 1
    told = capsys.readouterr().err
    assert "no thread can be started" in told
    assert "ulimit -u" in told


def test_a_demo_says_why_its_folder_cannot_be_filled(here, capsys):
    with limited(resource.RLIMIT_FSIZE, 8000):
        assert main(["demo", "--folder", "d"]) == 1
    told = capsys.readouterr().err
    assert "cannot write d/base/" in told
    assert "File too large" in told
    assert "hint: " in told
    (here / "link").symlink_to("nowhere")
    assert main(["demo", "--folder", "link"]) == 1
    assert "a broken link" in capsys.readouterr().err


def test_a_server_that_cannot_accept_says_so_once_a_minute():
    now = [0.0]
    bounded = Bounded(clock=lambda: now[0])
    full = OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def record():
        said = "socket.accept() out of system resource\nsocket: <socket>"
        return logging.LogRecord(
            "asyncio", logging.ERROR, "", 0, said, (), (OSError, full, None)
        )  # fmt: skip

    first = record()
    assert bounded.filter(first)
    assert first.exc_info is None
    assert "Too many open files" in first.getMessage()
    assert "\n" not in first.getMessage()
    assert not any(bounded.filter(record()) for _ in range(1000))
    now[0] = 61.0
    assert bounded.filter(record())


# with strace


def injected(call, error, when, path, *words):
    """Run a command some of whose calls about a file fail; its exit code and what it tells."""
    program = [
        "strace", "-f", "--seccomp-bpf", "-qqq", "-o", "/dev/null", "-e", f"trace={call}",
        "-e", f"inject={call}:error={error}:when={when}", "-P", path, "-P", os.path.abspath(path),
        sys.executable, "-m", "qwen2vl_rs", *words,
    ]  # fmt: skip
    done = subprocess.run(program, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@STRACE
@pytest.mark.slow
def test_faults_in_the_middle_of_commands(here, small_base):
    write_conversations(Path("data_vl.json"), make_samples(here / "images", images=6))
    chosen = [word for one in (*SETTINGS, f"model={small_base}") for word in ("--set", one)]
    run, weights = Path("output/Qwen2-VL-2B"), str(min(small_base.glob("*.safetensors")))
    partial = f"{run}/eval/before/predictions.partial-0.jsonl"
    code, told = injected("write", "ENOSPC", 1, partial, "train", *chosen)
    assert code == 1
    assert f"cannot write {partial}: No space left on device" in told
    assert f"then resume: {Run(run).resume_command()}" in told
    code, told = injected("openat", "EIO", 1, weights, "train", f"{run}/config.toml", "--resume")
    assert code == 1
    assert f"cannot read {weights}" in told
    assert "No such file" not in told
    assert main(["train", f"{run}/config.toml", "--resume"]) == 0
    code, told = injected("read", "EIO", 1, f"{run}/data/test.json", "compare", "--run", str(run))
    assert code == 1
    assert f"cannot read {run}/data/test.json: Input/output error" in told
    code, told = injected("read", "EIO", 2, weights, "export", str(run), "--merge", "-o", "new")
    assert code == 1
    assert f"cannot read {weights}: Input/output error" in told
    assert json.loads((run / "train_results.json").read_text())["train_steps"]


@pytest.mark.parametrize(
    ("files", "entries", "room", "hint"),
    [
        (9, 0, 9, "no free inodes"),
        (9, 0, 0, "free some disk space"),
        (9, 9, 0, "free some disk space"),
        (0, 0, 9, "free some disk space"),
    ],
)
def test_inodes_are_blamed_where_there_is_room_but_none_of_them(
    tmp_path, monkeypatch, files, entries, room, hint
):
    """Some file systems (btrfs) count no inodes at all."""
    there = SimpleNamespace(f_files=files, f_favail=entries, f_bavail=room)
    monkeypatch.setattr(os, "statvfs", lambda _: there)
    assert hint in room_hint(tmp_path / "new")
