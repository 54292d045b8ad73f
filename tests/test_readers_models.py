"""What a fresh reader tried on models, folders and runs: through commands and files alone."""

import json
import shutil
from pathlib import Path

import pytest

from qwen2vl_rs.cli import main

RUN = Path("output/Qwen2-VL-2B")
QUESTION = "Is there a road?"


@pytest.fixture
def copied(trained, tmp_path, monkeypatch):
    """A finished run of its own, in the current folder; its base is a copy in ``base``."""
    folder, _ = trained
    shutil.copytree(folder / RUN, tmp_path / RUN)
    monkeypatch.chdir(tmp_path)
    card = json.loads((RUN / "checkpoint-8/qwen2vl_rs.json").read_text())
    shutil.copytree(card["base"], "base")
    shutil.copytree(folder / "images", "images")
    return RUN


@pytest.fixture
def image(trained):
    return next((trained[0] / "images").iterdir())


def edit(path, **more):
    known = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**known, **more}))


def failed(capsys, *words):
    """What a command that ends with exit code 1 says."""
    code = main([str(word) for word in words])
    told = capsys.readouterr()
    assert (code, told.out) == (1, ""), told
    assert "Traceback" not in told.err
    assert "hint:" in told.err
    return told.err


def said(capsys, *words):
    code = main([str(word) for word in words])
    told = capsys.readouterr()
    assert code == 0, told.err
    return told.out, told.err


def resume(*more):
    return ["train", RUN / "config.toml", "--resume", *more]


# settings of a run that were edited, and checkpoints that are gone


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("learning_rate = 0.01", "learning_rate = 0.02", "learning_rate was 0.01, is 0.02"),
        ("num_train_epochs = 2", "num_train_epochs = 3", "num_train_epochs was 2, is 3"),
        ("r = 8", "r = 4", "lora.r was 8, is 4"),
        ("test_fraction = 0.3", "test_fraction = 0.5", "data.test_fraction was 0.3, is 0.5"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_an_edited_setting_is_not_passed_over(copied, capsys, old, new, words, finished):
    if not finished:
        (RUN / "train_results.json").unlink()
    text = (RUN / "config.toml").read_text()
    assert old in text
    (RUN / "config.toml").write_text(text.replace(old, new))
    told = failed(capsys, *resume())
    assert words in told
    assert "put back in output/Qwen2-VL-2B/config.toml" in told
    assert "--output" in told


def test_settings_typed_to_a_resumed_run_are_refused(copied, capsys):
    told = failed(capsys, *resume("--set", "training.max_steps=99"))
    assert "training.max_steps was None, is 99" in told
    assert "hint: resume with its own: qwen2vl-rs train output/Qwen2-VL-2B/config.toml" in told


def test_an_older_checkpoint_never_stands_for_the_last(copied, capsys, image):
    shutil.rmtree(RUN / "checkpoint-8")
    for words in (
        ["ask", RUN, image, QUESTION], ["eval", RUN], ["compare"],
        ["export", RUN, "-o", "out"],
    ):  # fmt: skip
        told = failed(capsys, *words)
        assert "trained to step 8, and checkpoint-8 is gone: its newest is checkpoint-4" in told
        assert "--resume" in told
    assert said(capsys, "ask", RUN / "checkpoint-4", image, QUESTION)[0]


def test_steps_whose_checkpoint_is_gone_are_trained_again(copied, trained, capsys):
    shutil.rmtree(RUN / "checkpoint-8")
    _, err = said(capsys, *resume())
    assert "checkpoint-8, is gone: its steps are done again" in err
    assert json.loads((RUN / "train_results.json").read_text())["train_steps"] == 8
    again, first = (p / "checkpoint-8/adapter_model.safetensors" for p in (RUN, trained[0] / RUN))
    assert again.read_bytes() == first.read_bytes()
