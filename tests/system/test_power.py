"""A power cut: nothing that is complete by name relies on what was not on disk."""

import contextlib
import json
import resource
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pyogrio
import pytest
import torch

from bases import SETTINGS
from factory import make_samples, write_image, write_rsvqa
from family import few
from faults.power import watched
from hubserver import HubServer
from qwen2vl_rs.cli import main
from qwen2vl_rs.datasets.tables import write_conversations
from qwen2vl_rs.system.files import HUB_MANIFEST, write_checksums, write_json
from qwen2vl_rs.training.circumstances import differences

RUN = Path("output/Qwen2-VL-2B")
SET = [word for setting in SETTINGS for word in ("--set", setting)]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def grow(names):
    """Without what grows or only locks, and without what is hidden: nothing relies on it."""
    return {
        n
        for n in names
        if not any(part.startswith(".") for part in Path(n).parts)
        and not n.endswith(("windows.jsonl",))
        and ".partial" not in n
        and "vision-cache" not in n
    }


def test_a_sealed_checkpoint_relies_on_nothing_that_may_be_lost(here, small_base):
    write_conversations(Path("data_vl.json"), make_samples(here / "images", images=6))
    with watched(here) as disk:
        assert main(["train", *SET, "--set", f"model={small_base}"]) == 0
    for step in (4, 8):
        assert grow(disk.when(f"checkpoint-{step}")) == set()
    for name in ("train_results.json", "eval/before/inputs.json", "compare.json"):
        assert grow(disk.when(f"{RUN}/{name}")) == set(), name
    assert grow(disk.lost()) == set()


def without_times(text):
    """Figures of training without how long it took."""
    rows = [json.loads(line) for line in text.splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def hub_of(base, monkeypatch):
    """A hub on the loopback that has a base."""
    pytest.importorskip("modelscope_hub")
    hub = HubServer()
    hub.repos["Qwen/Qwen2-VL-2B-Instruct"] = {
        "master": {p.name: p.read_bytes() for p in base.iterdir()}
    }
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", hub.url)
    return hub


def test_a_fetched_model_is_called_complete_when_it_is_on_disk(here, small_base, monkeypatch):
    with hub_of(small_base, monkeypatch), watched(here) as disk:
        assert main(["load"]) == 0
    (manifest,) = here.rglob(HUB_MANIFEST)
    assert {n for n in disk.when(HUB_MANIFEST) if not n.endswith(HUB_MANIFEST)} == set()
    assert grow(disk.lost()) == set()
    assert json.loads(manifest.read_text())["flushed"] is True


def test_files_found_in_place_are_flushed_too(here, small_base, monkeypatch):
    with hub_of(small_base, monkeypatch):
        assert main(["load"]) == 0
        (manifest,) = here.rglob(HUB_MANIFEST)
        manifest.unlink()  # the power failed before it was written
        with watched(here) as disk:
            for path in manifest.parent.iterdir():
                path.write_bytes(path.read_bytes())  # and nothing is on disk yet
            assert main(["load"]) == 0
    assert {
        n for n in disk.when(HUB_MANIFEST) if n.endswith((".safetensors", "config.json"))
    } == set()


def test_what_an_older_version_called_complete_is_not_believed_by_size(
    here, small_base, monkeypatch, capsys
):
    with hub_of(small_base, monkeypatch) as hub:
        assert main(["load"]) == 0
        (manifest,) = here.rglob(HUB_MANIFEST)
        model = manifest.parent
        known = json.loads(manifest.read_text())
        assert known.pop("flushed")
        write_json(manifest, known)
        weights = next(model.glob("*.safetensors"))
        whole = weights.read_bytes()
        weights.write_bytes(whole[:-9] + bytes(9))
        capsys.readouterr()
        write_image(Path("a.tif"), 56, 1)
        assert main(["ask", str(model), "a.tif", "x?"]) == 1
        told = capsys.readouterr().err
        assert f"{weights} differs from the download" in told
        assert "load --verify" in told
        weights.write_bytes(bytes(len(whole)))
        assert main(["load"]) == 0
        aside = weights.with_name(f"{weights.name}.changed")
        assert f"kept as {aside.name}, downloading it again" in capsys.readouterr().err
        assert weights.read_bytes() == whole
        assert aside.read_bytes() == bytes(len(whole))  # its owner may have made it
        write_json(manifest, known)
        asked = len(hub.asked)
        assert main(["load"]) == 0  # all is right: said so once, without the network
        assert len(hub.asked) == asked
        assert json.loads(manifest.read_text())["flushed"] is True


@pytest.mark.slow
def test_a_beginning_of_zeros_ends_in_the_right_file(here, small_base, monkeypatch):
    with hub_of(small_base, monkeypatch):
        assert main(["load"]) == 0
        (manifest,) = here.rglob(HUB_MANIFEST)
        weights = next(manifest.parent.glob("*.safetensors"))
        whole = weights.read_bytes()
        weights.unlink()
        manifest.unlink()
        partial = manifest.parent / ".incoming" / f"{weights.name}.incomplete"
        partial.parent.mkdir()
        partial.write_bytes(bytes(len(whole) // 2))
        assert main(["load"]) == 0
    assert weights.read_bytes() == whole
    assert not partial.parent.exists()


@pytest.mark.parametrize(
    ("damage", "gone"),
    few(
        [
            (lambda data: b"", 8),
            (lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2), 4),
            (lambda data: b"[]\n" + data, 8),
            (None, 8),
        ],
        0,
        1,
    ),
    ids=["empty", "zeros behind", "another line", "absent"],
)
def test_figures_that_were_lost_are_in_the_checkpoint(
    trained, tmp_path, monkeypatch, capsys, damage, gone
):
    folder = shutil.copytree(trained[0], tmp_path / "copy")
    monkeypatch.chdir(folder)
    figures, results = RUN / "metrics.jsonl", RUN / "train_results.json"
    whole, done = figures.read_bytes(), json.loads(results.read_text())
    results.unlink()  # as if the power had failed between the last checkpoint and this
    figures.write_bytes(damage(whole)) if damage else figures.unlink()
    assert main(["train", str(RUN / "config.toml"), "--resume"]) == 0
    told = capsys.readouterr().err
    assert f"metrics.jsonl lacks {gone} steps of 8, from step {9 - gone}: taken from" in told
    assert without_times(figures.read_text()) == without_times(whole.decode())
    assert json.loads(results.read_text()) == done
    assert main(["report", str(RUN)]) == 0


def test_figures_that_were_lost_with_their_times(trained, tmp_path, monkeypatch, capsys):
    """Checkpoints of older versions know the figures and not how long they took."""
    monkeypatch.chdir(shutil.copytree(trained[0], tmp_path / "copy"))
    state = RUN / "checkpoint-8/trainer_state.json"
    known = json.loads(state.read_text())
    for line in known["log_history"]:
        del line["seconds"], line["questions"]
    write_json(state, known)
    write_checksums(state.parent)
    done = json.loads((RUN / "train_results.json").read_text())
    (RUN / "train_results.json").unlink()
    figures = RUN / "metrics.jsonl"
    whole = figures.read_text()
    figures.write_text("".join(whole.splitlines(keepends=True)[:6]))
    assert main(["train", str(RUN / "config.toml"), "--resume"]) == 0
    assert "checkpoint-8; their times are lost" in capsys.readouterr().err
    assert without_times(figures.read_text()) == without_times(whole)
    unknown = {"train_runtime": None, "train_questions_per_second": None}
    assert json.loads((RUN / "train_results.json").read_text()) == {**done, **unknown}
    assert main(["report", str(RUN)]) == 0


TORN = {
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
    "zeros behind": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
    "zeros within": lambda data: data[:400] + bytes(300) + data[700:],
    "cut": lambda data: data[:-7],
    "cut in the first line": lambda data: data[:30],
    "another value": lambda data: data + b"5\n[]\n" + data,
}
TORN_SETS = [["zeros behind", "another value"], list(TORN)]


@pytest.fixture(scope="module")
def mapped(tmp_path_factory, small_base):
    """A finished map of a small scene, not to be written to."""
    folder = tmp_path_factory.mktemp("mapped")
    write_image(folder / "scene.tif", 112, 1)
    words = ["map", str(small_base), str(folder / "scene.tif"), "Is there a road?", "--tile", "28"]
    assert main([*words, "-o", str(folder / "map")]) == 0
    return folder / "map"


@pytest.mark.parametrize("torn", few(TORN_SETS, 0), ids=["two", "all"])
def test_windows_are_taken_up_to_the_last_sound_line(here, small_base, capsys, torn):
    write_image(Path("scene.tif"), 112, 1)
    words = ["map", str(small_base), "scene.tif", "Is there a road?", "--tile", "28"]
    with watched(here) as disk:
        assert main([*words, "-o", "whole"]) == 0
    for name in ("map.tif", "windows.gpkg", "map.html"):
        assert grow(disk.when(f"whole/{name}")) == set(), name
    assert grow(disk.lost()) == set()
    whole = Path("whole/windows.jsonl").read_bytes()
    for name in torn:
        damage = TORN[name]
        shutil.rmtree("torn", ignore_errors=True)
        Path("torn").mkdir()
        Path("torn/windows.jsonl").write_bytes(damage(whole))
        capsys.readouterr()
        assert main([*words, "-o", "torn"]) == 0, name
        assert "Traceback" not in capsys.readouterr().err
        assert Path("torn/windows.jsonl").read_bytes() == whole, name


@pytest.mark.parametrize("torn", few(TORN_SETS, 0), ids=["two", "all"])
def test_answers_are_taken_up_to_the_last_sound_line(here, small_base, capsys, torn):
    write_conversations(Path("test.json"), make_samples(here / "images", images=3))
    words = ["eval", str(small_base), "--test", "test.json", "--max-eval", "8"]
    with watched(here) as disk:
        assert main([*words, "-o", "whole"]) == 0
    for name in ("inputs.json", "results.json"):
        assert grow(disk.when(f"whole/{name}")) == set(), name
    assert grow(disk.lost()) == set()
    answers = Path("whole/predictions.jsonl").read_bytes()
    head = json.dumps({"key": json.loads(Path("whole/inputs.json").read_text())["key"]})
    rows = [json.loads(line) for line in answers.splitlines()]
    known = [{k: v for k, v in row.items() if k not in ("schema", "dataset")} for row in rows]
    partial = "".join(json.dumps(row) + "\n" for row in known)
    for name in torn:
        damage = TORN[name]
        shutil.rmtree("torn", ignore_errors=True)
        shutil.copytree("whole", "torn")
        for done in ("predictions.jsonl", "inputs.json", "results.json"):
            Path("torn", done).unlink()
        Path("torn/predictions.partial-0.jsonl").write_bytes(damage(f"{head}\n{partial}".encode()))
        assert main([*words, "-o", "torn"]) == 0, name
        assert "Traceback" not in capsys.readouterr().err
        assert Path("torn/predictions.jsonl").read_bytes() == answers, name


def test_answers_that_are_zeros_are_asked_again(here, small_base, capsys):
    write_conversations(Path("test.json"), make_samples(here / "images", images=2))
    words = ["eval", str(small_base), "--test", "test.json", "-o", "out", "--max-eval", "4"]
    assert main(words) == 0
    done = Path("out/predictions.jsonl")
    whole = done.read_bytes()
    for content in (b"", bytes(len(whole)), whole[:-5] + bytes(5)):
        done.write_bytes(content)
        capsys.readouterr()
        assert main(words) == 0
        assert "changed or damaged since; asking again" in capsys.readouterr().err
        assert done.read_bytes() == whole


def lose(*statements):
    """GDAL's writing that loses something and does not tell."""
    real = pyogrio.raw.write

    def write(target, *words, **more):
        real(target, *words, **more)
        with contextlib.closing(sqlite3.connect(":memory:")) as file:
            file.deserialize(target.getvalue())
            for (name,) in file.execute(
                "SELECT name FROM sqlite_master WHERE type = 'trigger'"
            ).fetchall():
                if "rtree" not in name or statements[0].startswith("DELETE FROM windows"):
                    file.execute(f'DROP TRIGGER "{name}"')
            for statement in statements:
                file.execute(statement)
            file.commit()
            data = file.serialize()
        target.seek(0)
        target.truncate()
        target.write(data)

    return write


@pytest.mark.parametrize(
    ("said", "statements"),
    few(
        [
            ("a window", ["DELETE FROM windows WHERE fid = 3"]),
            ("a column", ["ALTER TABLE windows DROP COLUMN q1_answer"]),
            ("the spatial index", ["DELETE FROM rtree_windows_geom"]),
            ("the spatial index", ["DELETE FROM gpkg_extensions WHERE table_name = 'windows'"]),
            ("the metadata", ["DELETE FROM gpkg_metadata"]),
            ("a layer", ["CREATE TABLE other (a)"]),
        ],
        0,
        2,
    ),
)
def test_what_is_missing_in_the_windows_is_found_before_they_get_their_name(
    here, mapped, small_base, monkeypatch, capsys, said, statements
):
    folder = shutil.copytree(mapped, here / "map")
    before = (folder / "windows.gpkg").read_bytes()
    monkeypatch.setattr("qwen2vl_rs.maps.mapper.rehearse", lambda *_: None)
    monkeypatch.setattr("pyogrio.raw.write", lose(*statements))
    words = ["map", str(small_base), str(mapped.parent / "scene.tif"), "Is there a road?"]
    assert main([*words, "--tile", "28", "-o", str(folder)]) == 1
    told = capsys.readouterr().err
    assert "windows.gpkg" in told
    assert said in told
    assert "it was written without" in told
    assert (folder / "windows.gpkg").read_bytes() == before
    assert not list(folder.glob(".*tmp*"))


@pytest.mark.parametrize("name", few(["map.tif", "windows.gpkg", "map.html"], 1))
def test_a_disk_without_room_for_a_file_of_a_map(here, mapped, small_base, capsys, name):
    folder = shutil.copytree(mapped, here / "map")
    sizes = {p.name: p.stat().st_size for p in folder.iterdir()}
    for one in ("map.tif", "windows.gpkg", "map.html"):
        (folder / one).unlink()
    words = ["map", str(small_base), str(mapped.parent / "scene.tif"), "Is there a road?"]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (sizes[name] - 1, hard))
    try:
        code = main([*words, "--tile", "28", "-o", str(folder)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    told = capsys.readouterr().err
    assert code == 1
    assert "hint:" in told
    assert "cannot write" in told
    for path in folder.iterdir():  # what is there is whole
        if path.name in ("map.tif", "windows.gpkg", "map.html"):
            assert path.read_bytes() == (mapped / path.name).read_bytes()
    assert not list(folder.glob(".*tmp*"))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("strace"), reason="strace makes the calls fail")
@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_a_call_that_fails_while_a_map_is_written(here, mapped, small_base, call):
    words = ["map", str(small_base), str(mapped.parent / "scene.tif"), "Is there a road?"]
    names = [f"map/.{name}.tmp" for name in ("map.tif", "windows.gpkg", "map.html")]
    for name in names:
        folder = shutil.copytree(mapped, here / "map", dirs_exist_ok=True)
        fail = ["strace", "-f", "-o", "trace", "-P", str(here / name), "-e", f"trace={call}"]
        fail += ["-e", f"inject={call}:error=EIO:when=1"]
        program = [sys.executable, "-m", "qwen2vl_rs", *words, "--tile", "28", "-o", str(folder)]
        done = subprocess.run([*fail, *program], capture_output=True, text=True)
        assert "INJECTED" in (here / "trace").read_text()
        assert done.returncode == 1, done.stderr
        assert name.removeprefix("map/.").removesuffix(".tmp") in done.stderr
        assert "hint:" in done.stderr
        for path in mapped.iterdir():
            assert (folder / path.name).read_bytes() == path.read_bytes()


def interrupted(trained, folder, monkeypatch):
    """A copy of a run that was killed after step 4."""
    shutil.copytree(trained[0], folder)
    monkeypatch.chdir(folder)
    shutil.rmtree(RUN / "checkpoint-8")
    shutil.rmtree(RUN / "eval")
    (RUN / "train_results.json").unlink()


def test_resuming_in_other_circumstances_is_said_and_written_down(
    trained, tmp_path, monkeypatch, capsys
):
    interrupted(trained, tmp_path / "copy", monkeypatch)
    began = json.loads((RUN / "manifest.json").read_text())
    monkeypatch.setattr(
        "qwen2vl_rs.training.circumstances.versions", lambda: {**began["versions"], "torch": "9.9"}
    )
    resume = ["train", str(RUN / "config.toml"), "--resume", "--set", "eval.max_eval=1"]
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert main([*resume, "--set", "training.max_tokens_per_pack=999"]) == 0
    finally:
        torch.set_num_threads(threads)
    told = " ".join(capsys.readouterr().err.split())
    tokens = f"tokens per pack {began['tokens_per_pack']} then, 999 now"
    torches = f"torch {began['versions']['torch']} then, 9.9 now"
    assert f"({threads} threads then, {threads + 1} now; {tokens}; {torches})" in told
    manifest = json.loads((RUN / "manifest.json").read_text())
    (once,) = manifest.pop("resumed")
    assert (once["step"], once["threads"], once["tokens_per_pack"]) == (4, threads + 1, 999)
    assert manifest == began  # what it was started with
    shutil.rmtree(RUN / "checkpoint-8")
    assert main([*resume, "--set", "training.max_tokens_per_pack=998"]) == 0
    manifest = json.loads((RUN / "manifest.json").read_text())
    assert [one["tokens_per_pack"] for one in manifest.pop("resumed")] == [999, 998]
    assert manifest == began


def test_the_figures_of_a_resumed_run_are_those_of_all_its_steps(
    trained, tmp_path, monkeypatch, capsys
):
    interrupted(trained, tmp_path / "copy", monkeypatch)
    path = RUN / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line["seconds"] += 1000
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines[:4]))
    before = (RUN / "manifest.json").read_bytes()
    assert main(["train", str(RUN / "config.toml"), "--resume"]) == 0
    # in the same circumstances: nothing is said of them
    assert "circumstances" not in capsys.readouterr().err
    assert (RUN / "manifest.json").read_bytes() == before
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    seconds = [line["seconds"] for line in lines]
    assert len(lines) == 8
    assert seconds == sorted(seconds)
    assert seconds[4] > 1000
    done = json.loads((RUN / "train_results.json").read_text())
    assert done["train_loss"] == pytest.approx(sum(line["loss"] for line in lines) / 8)
    assert done["train_runtime"] == pytest.approx(seconds[-1])
    questions = sum(line["questions"] for line in lines)
    assert done["train_questions"] == questions
    assert done["train_questions_per_second"] == pytest.approx(questions / seconds[-1], rel=0.01)


def test_what_is_compared_when_a_run_is_resumed():
    now = {
        "versions": {"torch": "2"},
        "device": "CPU",
        "cpu": "AVX2",
        "threads": 2,
        "dtype": "float32",
        "attention": "branches",
        "processes": 1,
        "tokens_per_pack": 9,
        "gradient_checkpointing": "off",
    }
    assert differences({}, now) == []  # not even begun
    assert differences({"threads": 2, "versions": {"torch": "2"}}, now) == []  # an older manifest
    for key, value in {
        "device": "H100",
        "cpu": "AVX512",
        "threads": 1,
        "dtype": "bfloat16",
        "attention": "flex",
        "processes": 2,
        "gradient_checkpointing": "on",
    }.items():
        (said,) = differences({**now, key: value}, now)
        assert str(value) in said
        assert str(now[key]) in said
    assert differences({**now, "threads": 1}, {**now, "cpu": None}) == []  # a GPU's helpers


def test_what_commands_leave_is_on_disk(here, trained, small_base):
    """Files that other files count on were flushed before these, and all in the end."""
    write_rsvqa(here / "rsvqa", images=3)
    shutil.copytree(trained[0] / RUN, here / "run")
    place = str(here / "run")
    with watched(here) as disk:
        for words in (
            ["data2csv", "--folder", "rsvqa"],
            ["csv2json"],
            ["generate", "--synthetic", "2", "--questions", "5", "-o", "world"],
            ["report", place],
            ["export", place, "-o", "adapter"],
            ["export", place, "-o", "merged", "--merge"],
            ["export", place, "-o", "rows", "--data", "data_vl.json", "--format", "trl"],
            ["eval", place, "--test", "data_vl.json", "--max-eval", "4", "-o", "evaluated"],
        ):
            assert main(words) == 0, words
            assert grow(disk.lost()) == set(), words
    for name in ("world/index.html", "adapter", "merged", "evaluated/results.json"):
        assert grow(disk.when(name)) == set(), name


def test_a_report_says_which_figures_are_gone(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(trained[0], tmp_path / "copy"))
    figures = RUN / "metrics.jsonl"
    whole = figures.read_bytes()
    figures.write_bytes(b"".join(whole.splitlines(keepends=True)[:5]) + bytes(300))
    for language, said in (
        ("en", ("Loss of the last 3 steps", "metrics.jsonl is damaged or incomplete")),
        ("zh", ("最后 3 步的损失曲线", "metrics.jsonl 从该步起已损坏")),
    ):
        assert main(["report", str(RUN), "--lang", language]) == 0
        page = (RUN / "report.html").read_text(encoding="utf-8").replace("\xa0", " ")
        assert all(text in page for text in said)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("metrics.jsonl", ["train", f"{RUN}/config.toml", "--resume"]),
        ("metrics.jsonl", ["report", str(RUN)]),
        ("vision-cache/index.jsonl", ["train", f"{RUN}/config.toml", "--resume"]),
        ("eval/before/predictions.partial-0.jsonl", ["train", f"{RUN}/config.toml", "--resume"]),
        ("map/windows.jsonl", ["map", str(RUN), "scene.tif", "Is it?", "-o", f"{RUN}/map"]),
    ],
)
def test_a_growing_file_that_cannot_be_read_is_not_absent(
    trained, tmp_path, monkeypatch, capsys, place, words
):
    interrupted(trained, tmp_path / "copy", monkeypatch)
    if words[0] == "report":
        shutil.copytree(trained[0] / RUN / "eval", RUN / "eval")
    write_image(Path("scene.tif"), 56, 1)
    path = RUN / place
    path.unlink(missing_ok=True)
    path.mkdir(parents=True)  # as good as a disk that fails: reading is an error
    (path.parent / "features.bin").write_bytes(b"1234")
    before = set(RUN.rglob("*"))
    capsys.readouterr()
    assert main([*words]) == 1
    told = capsys.readouterr().err
    assert f"cannot read {path}" in told
    assert "hint:" in told
    assert "Traceback" not in told
    assert before <= set(RUN.rglob("*"))
