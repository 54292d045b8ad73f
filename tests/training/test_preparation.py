"""Resuming a run: from what, with which questions, and from where."""

import json
import shutil
from pathlib import Path

import pytest

from bases import SETTINGS, configured
from factory import make_samples
from qwen2vl_rs.cli import main
from qwen2vl_rs.datasets.tables import read_conversations, write_conversations
from qwen2vl_rs.errors import DataError
from qwen2vl_rs.run import Run
from qwen2vl_rs.system.files import read_json, write_json
from qwen2vl_rs.training.fit import train
from qwen2vl_rs.training.preparation import make_split, prepare_questions

RUN = Path("output/Qwen2-VL-2B")
KEPT = ("adapter_model.safetensors", "optimizer.pt", "checksums.json", "trainer_state.json")


def command(base, *more):
    settings = (*SETTINGS, f"model={base}", "eval.max_eval=1")
    return ["train", *(w for s in settings for w in ("--set", s)), *more]


@pytest.fixture
def begun(trained, tmp_path, monkeypatch):
    """A run that was interrupted after its last checkpoint, in the current folder."""
    folder = shutil.copytree(trained[0], tmp_path / "copy")
    monkeypatch.chdir(folder)
    for name in ("train_results.json", "compare.json"):
        (RUN / name).unlink()
    shutil.rmtree(RUN / "eval")
    return folder


def content(run=RUN):
    return {
        f"{step.name}/{name}": (step / name).read_bytes()
        for step in run.glob("checkpoint-*") for name in KEPT if (step / name).is_file()
    }  # fmt: skip


def spoil(path):
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def test_a_read_error_stops_and_removes_nothing(begun, small_base, capsys):
    before = content()
    for name in ("checksums.json", "adapter_model.safetensors", "optimizer.pt"):
        kept = (RUN / "checkpoint-8" / name).rename(begun / "kept")
        (RUN / "checkpoint-8" / name).symlink_to("/proc/self/mem")  # opens; reading it is an EIO
        assert main(command(small_base, "--resume")) == 1
        told = capsys.readouterr().err
        assert f"error: cannot read {RUN}/checkpoint-8/{name}: Input/output error" in told
        assert "hint: check the disk" in told
        (RUN / "checkpoint-8" / name).unlink()
        kept.rename(RUN / "checkpoint-8" / name)
        assert content() == before
    assert main(command(small_base, "--resume")) == 0
    assert f"resuming from {RUN}/checkpoint-8" in capsys.readouterr().err


def test_training_never_starts_over_by_itself(trained, begun, small_base, capsys):
    for step in (4, 8):
        spoil(RUN / f"checkpoint-{step}/optimizer.pt")
    before = content()
    for told_as in ("set aside as checkpoint-8.damaged: optimizer.pt has changed", "is valid"):
        # the first time they are set aside; the second time they stand so already
        assert main(command(small_base, "--resume")) == 1
        told = capsys.readouterr().err
        assert told_as in told
        assert "no checkpoint in output/Qwen2-VL-2B is valid (checkpoint-4.damaged, checkp" in told
        assert "restore a copy of one" in told
    assert main(command(small_base)) == 1
    assert "already holds a run" in capsys.readouterr().err
    for words in (["eval", str(RUN)], ["compare", "--run", str(RUN)]):
        assert main(words) == 1
        assert "all checkpoints in" in capsys.readouterr().err
    kept = {name.replace(".damaged", ""): data for name, data in content().items()}
    assert kept == before
    # as the hint says
    good = shutil.copytree(trained[0] / RUN / "checkpoint-8", RUN / "checkpoint-8")
    assert main(command(small_base, "--resume")) == 0
    assert f"resuming from {good}" in capsys.readouterr().err


def test_checkpoints_that_are_gone_are_missed(begun, small_base, capsys):
    for step in (4, 8):
        shutil.rmtree(RUN / f"checkpoint-{step}")
    lines = (RUN / "metrics.jsonl").read_text().splitlines(keepends=True)
    for step in (8, 5):
        (RUN / "metrics.jsonl").write_text("".join(lines[:step]))
        assert main(command(small_base, "--resume")) == 1
        told = capsys.readouterr().err
        assert f"had reached step {step}, but its checkpoints are gone" in told
    # killed between the figures of step 4 and the first checkpoint, there is nothing to miss
    (RUN / "metrics.jsonl").write_text("".join(lines[:4]))
    assert main(command(small_base, "--resume")) == 0
    assert "no checkpoint yet: starting from the beginning" in capsys.readouterr().err


def test_the_readme_of_a_checkpoint_may_be_edited(begun, small_base, capsys):
    (RUN / "checkpoint-8/README.md").write_text("My best adapter.")
    assert main(command(small_base, "--resume")) == 0
    assert f"resuming from {RUN}/checkpoint-8" in capsys.readouterr().err
    assert not list(RUN.glob("*.damaged"))
    assert main(["compare", "--run", str(RUN), "-n", "1"]) == 0


def test_settings_that_an_old_run_does_not_know_had_their_defaults(begun, small_base, capsys):
    manifest = read_json(RUN / "manifest.json")
    for section, names in {"lora": ("use_dora", "adapter"), "training": ("vision_tower",)}.items():
        for name in names:
            del manifest["settings"][section][name]
    write_json(RUN / "manifest.json", manifest)
    lines = (RUN / "config.toml").read_text().splitlines()
    old = [line for line in lines if not line.startswith(("use_dora", "vision_tower"))]
    (RUN / "config.toml").write_text("\n".join(old))
    for setting in ("training.vision_tower=lora", "lora.use_dora=true"):
        assert main(command(small_base, "--resume", "--set", setting)) == 1
        assert f"{setting.partition('=')[0]} was " in capsys.readouterr().err
    assert main(command(small_base, "--resume")) == 0


def test_a_damaged_manifest_is_named(begun, small_base, capsys):
    (RUN / "manifest.json").write_text("{")
    for words in (command(small_base, "--resume"), ["compare", "--run", str(RUN)]):
        assert main(words) == 1
        assert "manifest.json is damaged: it is not JSON" in capsys.readouterr().err


def test_a_run_is_resumed_from_another_folder(begun, small_base, tmp_path, monkeypatch, capsys):
    """Neither its questions nor its base or folder are where the settings say."""
    whole = content()
    (RUN / "checkpoint-8/optimizer.pt").unlink()
    run = RUN.resolve()
    settings = (RUN / "config.toml").read_text()
    assert 'output = "output/Qwen2-VL-2B"' in settings
    settings = settings.replace(f'model = "{small_base}"', 'model = "base"')
    (RUN / "config.toml").write_text(settings.replace("[eval]", "[eval]\nmax_eval = 1"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    capsys.readouterr()
    assert main(["train", str(run / "config.toml"), "--resume"]) == 0
    assert f"resuming from {run}/checkpoint-4" in capsys.readouterr().err
    same = ("checkpoint-8/adapter_model.safetensors", "checkpoint-4/adapter_model.safetensors")
    assert all(content(run)[name] == whole[name] for name in same)
    for words in (["compare", "--run"], ["report"], ["eval", "--max-eval", "1"]):
        assert main([*words, str(run)]) == 0
    told = capsys.readouterr().err
    assert "no question-only baseline" not in told
    assert list(elsewhere.iterdir()) == []


def test_relative_image_paths_are_those_of_the_start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    samples = make_samples(Path("images"), images=6)
    assert samples[0].image == "images/0.tif"
    write_conversations(Path("data_vl.json"), samples)
    make_split(configured("base"), Run(RUN))
    for file in (RUN / "data/test.json", Path("data_vl_test.json")):
        assert next(read_conversations(file)).image.startswith(f"{tmp_path}/images/")


@pytest.fixture
def old(begun):
    """A run made before runs kept copies of their questions."""
    shutil.rmtree(RUN / "data")
    return begun


def test_a_run_without_copies_takes_them_from_where_it_was_started(old, small_base, capsys):
    assert main(["eval", str(RUN), "--max-eval", "1"]) == 0
    assert "no question-only baseline" not in capsys.readouterr().err
    assert main(command(small_base, "--resume")) == 0
    for own, name in (("train.json", "data_vl_train.json"), ("test.json", "data_vl_test.json")):
        assert (RUN / "data" / own).read_bytes() == Path(name).read_bytes()


def test_a_run_without_copies_takes_no_others(old, small_base, capsys):
    samples = list(read_conversations(Path("data_vl_test.json")))
    write_conversations(Path("data_vl_test.json"), samples[:8])
    for words in (command(small_base, "--resume"), ["compare", "--run", str(RUN)]):
        assert main(words) == 1
        assert "data_vl_test.json belongs to another run" in capsys.readouterr().err
    Path("data_vl_test.json").unlink()
    assert main(["eval", str(RUN)]) == 1
    told = capsys.readouterr().err
    assert "data_vl_test.json is not here" in told
    assert (
        "change to the folder in which the run was started, or name the questions: --test FILE"
        in told
    )
    assert not (RUN / "data/test.json").exists()


def test_a_start_that_was_killed_between_its_questions_splits_again(begun, small_base):
    whole = (RUN / "data/train.json").read_bytes()
    for name in ("manifest.json", "data/test.json"):
        (RUN / name).unlink()
    (RUN / "data/train.json").write_bytes(b"[")
    prepare_questions(configured(small_base), Run(RUN), resume=True)
    assert (RUN / "data/train.json").read_bytes() == whole
    write_conversations(Path("data_vl.json"), make_samples(begun / "images", images=3))
    prepare_questions(configured(small_base), Run(RUN), resume=True)  # it has its own by now
    assert (RUN / "data/train.json").read_bytes() == whole


def test_the_split_never_replaces_the_questions_it_is_made_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    samples = make_samples(tmp_path / "images", 6)
    write_conversations(Path("data_vl_train.json"), samples)
    before = Path("data_vl_train.json").read_bytes()
    with pytest.raises(DataError, match="replaced by a part of itself"):
        make_split(configured("base", "data.conversations=data_vl_train.json"), Run(Path("run")))
    write_conversations(Path("data_vl_test.json"), samples[:8])
    ready = ("data.train=data_vl_train.json", "data.test=data_vl_test.json", "data.max_train=8")
    make_split(configured("base", *ready), Run(Path("run")))
    assert Path("data_vl_train.json").read_bytes() == before


def test_no_copies_are_made_where_none_are_wanted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_conversations(Path("mine.json"), make_samples(tmp_path / "images", 6))
    config = configured("base", "data.conversations=mine.json")
    make_split(config, Run(Path("run")), copies=None)
    assert sorted(path.name for path in Path().iterdir()) == ["images", "mine.json", "run"]


def test_a_finished_run_is_trained_for_more_epochs(here_eight, small_base, capsys):
    """As a run that was planned for as many: order, rates and dropout; its first part is kept."""
    run, more = Path("output/Qwen2-VL-2B"), ("lora.lora_dropout=0.2", "training.warmup_ratio=0.25")
    train(configured(small_base, *more))
    planned = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    shutil.rmtree(run)
    train(configured(small_base, *more, "training.num_train_epochs=1"))
    first = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    half = len(planned) // 2
    assert len(first) == half
    command = ["train", f"{run}/config.toml", "--resume", "--set", "training.num_train_epochs=2"]
    assert main(command) == 0
    told = capsys.readouterr().err
    assert "resuming from output/Qwen2-VL-2B/checkpoint-" in told
    assert "repeated" not in told
    both = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    assert both[:half] == first
    names = ("step", "learning_rate", "questions", "epoch")
    rest = [[[one[name] for name in names] for one in lines[half:]] for lines in (both, planned)]
    assert rest[0] == rest[1]
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["settings"]["training"]["num_train_epochs"] == 2
    (once,) = manifest["resumed"]
    assert once["settings"] == ["training.num_train_epochs was 1, is 2"]
    stamp = (run / "metrics.jsonl").stat().st_mtime_ns
    assert main(["train", f"{run}/config.toml", "--resume"]) == 0  # it is finished
    assert (run / "metrics.jsonl").stat().st_mtime_ns == stamp
    shorter = [*command[:-1], "training.num_train_epochs=1"]
    assert main(shorter) == 1
    assert "training.num_train_epochs was 2, is 1" in capsys.readouterr().err


@pytest.fixture
def here_eight(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_conversations(Path("data_vl.json"), make_samples(tmp_path / "images", images=8))
