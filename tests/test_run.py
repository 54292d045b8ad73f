import contextlib
import errno
import fcntl
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from qwen2vl_rs.errors import RunError
from qwen2vl_rs.run import Run
from qwen2vl_rs.system.files import (
    CHECKSUMS,
    atomic_write,
    read_json,
    remove_folder,
    run_lock,
    set_aside,
    sha256,
    staged_folder,
    verify_checksums,
    write_checksums,
    write_json,
)


def broken(path: Path) -> None:
    """A file that is there and opens, but whose content cannot be read (EIO)."""
    path.unlink(missing_ok=True)
    path.symlink_to("/proc/self/mem")


def failing(monkeypatch, module, name: str, number: int, only=lambda handle, *_: True) -> None:
    """Let calls to the operating system fail."""
    real = getattr(module, name)

    def call(*arguments):
        if only(*arguments):
            raise OSError(number, os.strerror(number))
        return real(*arguments)

    monkeypatch.setattr(module, name, call)


def is_folder(handle, *_) -> bool:
    return stat.S_ISDIR(os.fstat(handle).st_mode)


def write(path: Path, text: str = "new") -> None:
    with atomic_write(path) as file:
        file.write(text)


@pytest.fixture
def locked():
    """A folder that this process may read, but not write to; not as super-user meanwhile."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "old").write_text("old")
        folder.chmod(0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if root:
                os.seteuid(0)
            folder.chmod(0o755)


# Files, whole or not at all


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "a" / "b" / "file.txt"
    with atomic_write(path) as file:
        file.write("one\r\ntwo\n图")
        assert not path.exists()
    assert path.read_bytes() == "one\r\ntwo\n图".encode()
    assert os.listdir(path.parent) == ["file.txt"]
    with atomic_write(path, "wb") as file:
        file.write(b"\r\n\xff")
    assert path.read_bytes() == b"\r\n\xff"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_exception_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "file"
    path.write_text("old")

    def fail():
        with atomic_write(path) as file:
            file.write("new" * 100_000)
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_text_that_is_no_utf_8_leaves_the_old_file(tmp_path):
    write(tmp_path / "file", "old")
    with pytest.raises(UnicodeEncodeError):
        write(tmp_path / "file", "half\udc80")
    assert (tmp_path / "file").read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


KILLED = """
import os, signal, sys
from pathlib import Path
from qwen2vl_rs.system.files import atomic_write
with atomic_write(Path(sys.argv[1])) as file:
    file.write("new" * 100_000)
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert not list(tmp_path.glob("[!.]*.tmp")), "what is left must be hidden"
    write(path)
    assert path.read_text() == "new"


NAMES = {
    "long": "a" * 255,
    "long-chinese": "图" * 85,
    "long-mixed": "😀" * 63 + "abc",
    "spaces": " two  words ",
    "chinese": "图像 问题.json",
    "hidden": ".hidden",
    "signs": "-50%*?[a].json",
    "line-break": "line\nbreak",
    "no-utf-8": "\udcff",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_any_name_the_file_system_takes(tmp_path, name):
    assert len(os.fsencode(name)) <= 255
    write(tmp_path / name)
    assert (tmp_path / name).read_text() == "new"
    assert os.listdir(tmp_path) == [name]


def test_a_name_the_file_system_refuses(tmp_path):
    with pytest.raises(RunError, match="File name too long"):
        write(tmp_path / ("a" * 256))
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("name", ["folder", "file/below", "file/far/below"])
def test_a_place_where_no_file_can_be(tmp_path, name):
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunError) as caught:
        write(tmp_path / name)
    assert caught.value.message.startswith(f"cannot write {tmp_path / name}: ")
    assert caught.value.hint
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@pytest.mark.parametrize("name", ["new", "old", "folder/new", "far/below/new"])
def test_a_folder_one_may_not_write_to(locked, name):
    with pytest.raises(RunError) as caught:
        write(locked / name)
    assert caught.value.message == f"cannot write {locked / name}: Permission denied"
    assert os.listdir(locked) == ["old"]
    assert (locked / "old").read_text() == "old"


def test_a_file_too_large_is_an_expected_failure(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(RunError) as caught:
            write(path, "x" * 1_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.message == f"cannot write {path}: {os.strerror(errno.EFBIG)}"
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


@contextlib.contextmanager
def small_disk(folder: Path):
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no small disk to fill: {error}")
    if done.returncode:
        pytest.skip(f"no small disk to fill: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_the_old_file(tmp_path):
    with small_disk(tmp_path):
        path = tmp_path / "file"
        write(path, "old")
        with pytest.raises(RunError) as caught:
            write(path, "x" * 1_000_000)
        assert caught.value.message == f"cannot write {path}: {os.strerror(errno.ENOSPC)}"
        assert "free some disk space" in caught.value.hint
        assert path.read_text() == "old"
        assert os.listdir(tmp_path) == ["file"]
        write(path)  # and there is room again


def test_a_read_only_disk_is_an_expected_failure(tmp_path):
    with small_disk(tmp_path):
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path)], check=True)
        with pytest.raises(RunError, match="Read-only file system"):
            write(tmp_path / "file")


def test_the_errors_of_others_are_not_ours(tmp_path):
    def read_elsewhere():
        with atomic_write(tmp_path / "file"):
            (tmp_path / "missing").read_text()

    with pytest.raises(FileNotFoundError, match="missing"):
        read_elsewhere()
    assert not os.listdir(tmp_path)


def test_json(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"图": [1, None, 0.5]})
    assert path.read_text(encoding="utf-8") == json.dumps(
        {"图": [1, None, 0.5]}, ensure_ascii=False, indent=2
    ) + "\n"  # fmt: skip
    assert read_json(path) == {"图": [1, None, 0.5]}
    assert read_json(tmp_path / "missing.json") is None
    assert read_json(path / "below.json") is None


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff", b"[" * 100_000], ids=len)
def test_damaged_json_is_not_absent(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"a\.json is damaged: it is not JSON"):
        read_json(path)
    assert read_json(path, damaged=None) is None  # where that makes no difference


def test_what_cannot_be_read_is_not_absent(tmp_path):
    broken(tmp_path / "a.json")
    in_its_place = tmp_path / "folder"
    in_its_place.mkdir()
    for path, hint in ((tmp_path / "a.json", "check the disk"), (in_its_place, "check its name")):
        for damaged in ({}, {"damaged": None}):
            with pytest.raises(RunError, match="cannot read") as caught:
                read_json(path, **damaged)
            assert hint in caught.value.hint


# Folders


def test_sha256_is_that_of_the_standard(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(tmp_path / "a") == known


@pytest.fixture
def sealed(tmp_path):
    folder = tmp_path / "checkpoint-3"
    (folder / "deep 图").mkdir(parents=True)
    (folder / "weights.bin").write_bytes(bytes(range(256)) * 1000)
    (folder / "deep 图" / "card.json").write_text("{}")
    (folder / "empty").write_text("")
    write_checksums(folder)
    return folder


def test_a_sealed_folder_is_sound(sealed):
    assert verify_checksums(sealed) is None
    names = json.loads((sealed / CHECKSUMS).read_text(encoding="utf-8"))
    assert set(names) == {"weights.bin", "deep 图/card.json", "empty"}
    write_checksums(sealed)
    assert set(json.loads((sealed / CHECKSUMS).read_text(encoding="utf-8"))) == set(names)
    assert verify_checksums(sealed) is None


def test_a_flipped_bit_is_damage(sealed):
    path = sealed / "weights.bin"
    content = bytearray(path.read_bytes())
    content[100_000] ^= 1
    path.write_bytes(content)
    assert verify_checksums(sealed) == "weights.bin has changed since it was written"


def test_a_file_cut_short_or_missing_is_damage(sealed):
    path = sealed / "deep 图" / "card.json"
    path.write_text("")
    assert verify_checksums(sealed) == "deep 图/card.json has changed since it was written"
    path.unlink()
    assert verify_checksums(sealed) == "deep 图/card.json is missing"
    path.mkdir()
    assert verify_checksums(sealed) == "deep 图/card.json is missing"


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff", b"[]", b"null"])
def test_without_checksums_a_folder_is_damaged(sealed, content):
    if content is None:
        (sealed / CHECKSUMS).unlink()
    else:
        (sealed / CHECKSUMS).write_bytes(content)
    assert (
        verify_checksums(sealed) == f"{CHECKSUMS} is {'missing' if content is None else 'damaged'}"
    )


def test_a_missing_folder_is_damaged(tmp_path):
    assert verify_checksums(tmp_path / "missing") == f"{CHECKSUMS} is missing"


@pytest.mark.parametrize("name", [CHECKSUMS, "weights.bin"])
def test_what_cannot_be_read_is_not_damaged(sealed, name):
    broken(sealed / name)
    with pytest.raises(RunError, match=f"cannot read .*{name}: Input/output error") as caught:
        verify_checksums(sealed)
    assert "check the disk" in caught.value.hint


def test_pages_for_people_may_be_edited(sealed):
    (sealed / "README.md").write_text("old")
    write_checksums(sealed)
    assert "README.md" not in json.loads((sealed / CHECKSUMS).read_bytes())
    listed = json.loads((sealed / CHECKSUMS).read_bytes()) | {"README.md": "as older versions did"}
    write_json(sealed / CHECKSUMS, listed)
    assert verify_checksums(sealed) is None
    (sealed / "README.md").unlink()
    assert verify_checksums(sealed) is None


def test_damaged_folders_are_set_aside(tmp_path):
    for n, name in enumerate(("damaged", "damaged-2", "damaged-3")):
        folder = tmp_path / "checkpoint-7"
        folder.mkdir()
        (folder / "weights").write_text(str(n))
        assert set_aside(folder) == tmp_path / f"checkpoint-7.{name}"
    assert sorted(os.listdir(tmp_path)) == [f"checkpoint-7.{n}" for n in
                                            ("damaged", "damaged-2", "damaged-3")]  # fmt: skip
    kept = [(path / "weights").read_text() for path in sorted(tmp_path.iterdir())]
    assert kept == ["0", "1", "2"]
    assert Run(tmp_path).checkpoints() == []
    with pytest.raises(RunError, match=r"all checkpoints in .* are damaged: checkpoint-7\.damaged"):
        Run(tmp_path).newest_checkpoint()


def test_a_folder_is_removed_whole(tmp_path):
    (tmp_path / "checkpoint-1").mkdir()
    (tmp_path / "checkpoint-1" / "a").write_text("")
    (tmp_path / ".checkpoint-1.tmp").mkdir()  # of another time
    remove_folder(tmp_path / "checkpoint-1")
    assert os.listdir(tmp_path) == []


def test_a_staged_folder_appears_sealed(tmp_path):
    final = tmp_path / "run" / "checkpoint-1"
    with staged_folder(final) as folder:
        (folder / "a").write_text("new")
        assert not final.exists()
        assert not Run(tmp_path / "run").checkpoints()
    assert verify_checksums(final) is None
    assert (final / "a").read_text() == "new"
    assert os.listdir(tmp_path / "run") == ["checkpoint-1"]


def test_a_staged_folder_replaces_an_old_one(tmp_path):
    final = tmp_path / "checkpoint-1"
    for name in ("old", "new"):
        with staged_folder(final) as folder:
            (folder / name).write_text("")
    assert sorted(os.listdir(final)) == [CHECKSUMS, "new"]


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (OSError, OSError),  # of something else
        (OSError(errno.ENOSPC, "No space left on device"), RunError),
        (KeyboardInterrupt, KeyboardInterrupt),
    ],
)
def test_a_staged_folder_that_fails_leaves_the_old_one(tmp_path, error, seen):
    final = tmp_path / "checkpoint-1"
    with staged_folder(final) as folder:
        (folder / "a").write_text("old")

    def fail():
        with staged_folder(final) as folder:
            (folder / "a").write_text("new")
            raise error

    with pytest.raises(seen):
        fail()
    assert (final / "a").read_text() == "old"
    assert verify_checksums(final) is None
    assert os.listdir(tmp_path) == ["checkpoint-1"]


def test_what_a_kill_left_does_not_get_into_the_next_folder(tmp_path):
    (tmp_path / ".checkpoint-1.tmp").mkdir()
    (tmp_path / ".checkpoint-1.tmp" / "half").write_text("half")
    with staged_folder(tmp_path / "checkpoint-1") as folder:
        (folder / "a").write_text("")
    assert sorted(os.listdir(tmp_path / "checkpoint-1")) == ["a", CHECKSUMS]
    assert os.listdir(tmp_path) == ["checkpoint-1"]


def test_what_stood_there_is_put_back_when_the_new_one_cannot_be_named(tmp_path, monkeypatch):
    final = tmp_path / "checkpoint-1"
    with staged_folder(final) as folder:
        (folder / "a").write_text("old")
    real = Path.rename

    def rename(self, target):
        if self.name.endswith(".tmp"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(self))
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(RunError, match=r"cannot write .*checkpoint-1: Input/out") as caught:
        replace_with_new(final)
    assert "check the disk" in caught.value.hint
    assert (final / "a").read_text() == "old"
    assert verify_checksums(final) is None
    assert os.listdir(tmp_path) == ["checkpoint-1"]


def replace_with_new(final):
    with staged_folder(final) as folder:
        (folder / "a").write_text("new")


def test_what_stood_there_is_put_back_after_a_kill_between_two_renames(tmp_path):
    final = tmp_path / "checkpoint-1"
    replace_with_new(final)
    final.rename(tmp_path / ".checkpoint-1.old")

    def fail():
        with staged_folder(final):
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - it is ours
        fail()
    assert (final / "a").read_text() == "new"
    assert os.listdir(tmp_path) == ["checkpoint-1"]


def test_what_stood_there_is_kept_until_the_new_one_is_on_disk(tmp_path, monkeypatch):
    final = tmp_path / "checkpoint-1"
    replace_with_new(final)
    (final / "a").chmod(0o600)
    write_checksums(final)
    old = (final / "a").stat().st_ino
    with monkeypatch.context() as patch:
        parent = tmp_path.stat().st_ino
        failing(patch, os, "fsync", errno.EIO, lambda handle: os.fstat(handle).st_ino == parent)
        with pytest.raises(RunError, match="Input/output error"):
            replace_with_new(final)
    assert (tmp_path / ".checkpoint-1.old" / "a").stat().st_ino == old
    replace_with_new(final)
    assert os.listdir(tmp_path) == ["checkpoint-1"]


def test_a_read_error_is_not_blamed_on_the_output(tmp_path):
    broken(tmp_path / "source")

    def copy():
        with staged_folder(tmp_path / "out"):
            (tmp_path / "none").read_bytes()

    with pytest.raises(FileNotFoundError, match="none"):
        copy()


def test_checkpoints_that_cannot_be_listed_are_not_absent(tmp_path, monkeypatch):
    (tmp_path / "checkpoint-1").mkdir()
    (tmp_path / "checkpoint-2").symlink_to("nowhere")
    assert Run(tmp_path).checkpoints() == [tmp_path / "checkpoint-1"]
    failing(monkeypatch, os, "listdir", errno.EIO)
    with pytest.raises(RunError, match=r"cannot read .*Input/output error"):
        Run(tmp_path).checkpoints()


def test_a_checkpoint_behind_a_loop_of_links_is_not_absent(tmp_path):
    """As automounters answer for a disk that cannot be mounted now."""
    (tmp_path / "checkpoint-1").mkdir()
    (tmp_path / "checkpoint-2").symlink_to("checkpoint-2")
    with pytest.raises(RunError, match=r"cannot read .*checkpoint-2: Too many levels"):
        Run(tmp_path).checkpoints()


def test_checkpoints_stand_in_the_order_of_their_steps(tmp_path):
    for name in ("10", "9", "100", "x", "1-old", ""):
        (tmp_path / f"checkpoint-{name}").mkdir()
    (tmp_path / "checkpoint-7").write_text("a file")
    (tmp_path / ".checkpoint-11.tmp").mkdir()
    found = [path.name for path in Run(tmp_path).checkpoints()]
    assert found == ["checkpoint-9", "checkpoint-10", "checkpoint-100"]
    assert Run(tmp_path).newest_checkpoint() == tmp_path / "checkpoint-100"


@pytest.mark.parametrize("name", ["", "missing", "file"])
def test_a_run_without_checkpoints(tmp_path, name):
    (tmp_path / "file").write_text("")
    assert Run(tmp_path / name).checkpoints() == []
    with pytest.raises(RunError, match="no checkpoint in") as caught:
        Run(tmp_path / name).newest_checkpoint()
    assert "qwen2vl-rs train" in caught.value.hint


# One process at a time

HOLDING = """
import sys
from pathlib import Path
from qwen2vl_rs.system.files import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path):
    run = tmp_path / "output" / "run"
    for end in ("return", "kill"):
        with subprocess.Popen(
            [sys.executable, "-c", HOLDING, run],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            assert process.stdout.readline() == "held\n"
            with pytest.raises(RunError, match="another process is using") as caught:
                run_lock(run).__enter__()
            assert str(run) in caught.value.message
            assert "--output" in caught.value.hint
            with run_lock(tmp_path / "output" / "other"):
                pass
            if end == "kill":
                process.kill()
            else:
                process.communicate("\n")
        with run_lock(run):
            assert run.is_dir()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOLCK])
def test_a_file_system_without_locks_is_worked_on_and_named_once(
    tmp_path, monkeypatch, capsys, number
):
    failing(monkeypatch, fcntl, "flock", number)
    for name in ("one", "two"):
        with run_lock(tmp_path / name):
            write(tmp_path / name / "file")
    assert capsys.readouterr().err == (
        f"warning: the file system of {tmp_path}/one does not support locks: make sure that only "
        "one process at a time uses a folder\n"
    )


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EWOULDBLOCK, "another process is using"),
        (errno.EACCES, "another process is using"),
        (errno.EIO, "cannot lock .*Input/output error"),
    ],
)
def test_why_a_lock_fails_is_told_apart(tmp_path, monkeypatch, number, said):
    failing(monkeypatch, fcntl, "flock", number)
    with pytest.raises(RunError, match=said):
        run_lock(tmp_path).__enter__()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_that_cannot_flush_folders_is_worked_on_and_named_once(
    tmp_path, monkeypatch, capsys, number
):
    failing(monkeypatch, os, "fsync", number, is_folder)
    for name in ("one", "two"):
        write(tmp_path / name)
        with staged_folder(tmp_path / f"folder-{name}") as folder:
            (folder / "a").write_text("")
    assert verify_checksums(tmp_path / "folder-two") is None
    assert capsys.readouterr().err.count("cannot flush a folder") == 1


def test_a_folder_that_fails_to_flush_is_an_error_of_the_disk(tmp_path, monkeypatch):
    failing(monkeypatch, os, "fsync", errno.EIO, is_folder)
    with pytest.raises(RunError, match="Input/output error") as caught:
        write(tmp_path / "file")
    assert "check the disk" in caught.value.hint


def test_a_folder_one_may_write_to_but_not_list(locked):
    mine = os.geteuid()
    if os.getuid() == 0:
        os.seteuid(0)
    locked.chmod(0o333)
    os.seteuid(mine)
    write(locked / "new")
    assert (locked / "new").read_text() == "new"


def test_a_lock_is_given_back_after_an_error(tmp_path):
    def fail():
        with run_lock(tmp_path):
            raise ValueError

    for _ in range(2):
        with pytest.raises(ValueError):  # noqa: PT011 - it is ours
            fail()


def test_what_blocks_inside_is_not_taken_for_the_lock(tmp_path):
    def block():
        with run_lock(tmp_path), (tmp_path / "other").open("w") as one:
            fcntl.flock(one, fcntl.LOCK_EX)
            with (tmp_path / "other").open("w") as two:
                fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)

    with pytest.raises(BlockingIOError):
        block()


@pytest.mark.parametrize("name", ["run", "far/run", ""])
def test_a_run_folder_one_may_not_write_to(locked, name):
    with pytest.raises(RunError, match=r"cannot write to .*: Permission denied") as caught:
        run_lock(locked / name).__enter__()
    assert caught.value.hint
